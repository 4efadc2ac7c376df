"""What is refused before any load, and what another server does to a scenario: names, labels, connections."""

from typing import Any

import pytest

from analysis.known import require_known
from lab.catalog.describe import under_servers, without_workers
from lab.model import Burst, Chart, Claim, ClosedLoad, Condition, OpenLoad, Server
from lab.processes import reason_in
from lab.words.errors import UsageError
from lab.words.metrics import Notation
from tests.fakes import gotcha_plan


def claim(metric: str) -> Claim:
    return Claim("c", "harm", "s", Notation(metric), predict=lambda condition: 1.0, formula="1", source="s")


def test_an_unknown_metric_or_variant_is_refused_with_the_nearest_name() -> None:
    require_known([gotcha_plan(claim("naive.observed[x] / correct.observed[x]"))])
    with pytest.raises(UsageError, match="claim c: there is no metric 'observd'") as caught:
        require_known([gotcha_plan(claim("naive.observd[x]"))])
    assert "'observed'" in caught.value.hint
    with pytest.raises(UsageError, match="no variant 'corect'"):
        require_known([gotcha_plan(claim("corect.observed[x]"))])


def test_a_chart_of_the_trials_own_rows_names_no_metric_and_any_other_must() -> None:
    require_known([gotcha_plan(charts=(Chart("ecdf", "latency", "t"), Chart("timeline", "loop_lag_max_s", "t")))])
    with pytest.raises(UsageError, match="there is no metric 'latency'"):
        require_known([gotcha_plan(charts=(Chart("counts", "latency", "t"),))])


def test_a_label_loses_the_workers_that_another_server_replaces_unless_two_would_be_one() -> None:
    labels = ["2 workers, 10 users", "10 users", "holder killed, 4 workers", "4 workers", "one connection to 4 workers"]
    assert without_workers(labels) == {
        "2 workers, 10 users": "2 workers, 10 users", "10 users": "10 users", "holder killed, 4 workers": "holder killed",
        "4 workers": "4 workers", "one connection to 4 workers": "one connection",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("load", "workers", "spread"),
    [
        (ClosedLoad(4), 4, True), (ClosedLoad(3), 4, False), (ClosedLoad(4), 1, False), (ClosedLoad(8, reconnect=True), 4, False),
        (OpenLoad(10.0, connections=4), 4, True), (Burst(4), 4, True), (Burst(2), 4, False),
    ],
)  # fmt: skip
def test_more_workers_are_met_evenly_where_each_can_have_a_connection(load: Any, workers: int, spread: bool) -> None:
    (one,) = under_servers(Condition("c", load), [Server(workers=workers)])
    assert one.load.spread is spread
    (control,) = under_servers(Condition("c", load, control=True), [Server(workers=workers)])
    assert control.load.spread is False


TRACEBACK = """
INFO: started
Traceback (most recent call last):
  File "/x/site-packages/uvicorn/main.py", line 9, in run
  File "/home/me/shop/naive.py", line 6
    ap p = FastAPI()
       ^
SyntaxError: invalid syntax
"""


def test_a_servers_log_says_in_one_line_why_it_ended() -> None:
    assert reason_in(TRACEBACK, 8) == "SyntaxError: invalid syntax (naive.py:6)"
    assert reason_in(f"{TRACEBACK}ERROR: Application startup failed. Exiting.", 8).startswith("SyntaxError")
    survived = f"{TRACEBACK}one\ntwo\nthree\naddress already in use"
    assert reason_in(survived, 2) == "three | address already in use"
    assert reason_in("", 8) == ""
