"""Metrics and proxy modes as values: a typo fails where it is written, not after a minute of load."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.metrics import METRICS
from lab.catalog.asked import require_values
from lab.model import Chart, Claim, ClosedLoad, Condition, Event, FinalRead, MetricExpression, Proxy, Scenario
from lab.words.metrics import QUANTITIES, Arm, Notation, correct, each, naive, own_unit, unit_of
from lab.words.modes import delay, drop_first_replies, drop_replies, mode_of
from lab.words.predictions import having, in_control, in_duet, under

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = sorted((ROOT / "scenarios").glob("*/*.py"))


def test_every_name_has_a_function_and_every_function_a_name() -> None:
    assert set(QUANTITIES) == set(METRICS)


def test_a_metric_is_written_as_it_is_read_back() -> None:
    written = correct.sql_calls_per_burst("load") / naive.sql_calls_per_burst("load")
    assert written == "correct.sql_calls_per_burst[load] / naive.sql_calls_per_burst[load]"
    assert [(ref.variant, ref.metric, ref.arg) for ref in MetricExpression.parse(written).refs] == [
        ("correct", "sql_calls_per_burst", "load"), ("naive", "sql_calls_per_burst", "load"),
    ]  # fmt: skip
    assert each.latency_p99_s == "latency_p99_s"
    assert each.latency_at_level_s(900_000) == "latency_at_level_s[900000]"
    assert naive.redis_calls("config|get") == "naive.redis_calls[config|get]"
    assert Arm("with_cashews").throughput_rps == "with_cashews.throughput_rps"


def test_a_metric_that_is_none_is_no_attribute() -> None:
    with pytest.raises(AttributeError):
        naive.latency_p98_s  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda: naive.makespan_s("GET /"), "makespan_s takes no argument"),
        (lambda: naive.status_count(42), "status_count: '42' is not: status code"),
        (lambda: naive.latency_at_level_s("deep"), "latency_at_level_s: 'deep' is not: level"),
        (lambda: naive.recovery_s(0), "recovery_s: '0' is not: limit in seconds"),
        (lambda: naive.recovery_s("soon"), "recovery_s: 'soon' is not: limit in seconds"),
        (lambda: naive.recovery_s(float("inf")), "recovery_s: 'inf' is not: limit in seconds"),
        (lambda: naive.latency_at_level_s("²"), "is not: level"),
        (lambda: naive.rows_read("a]b"), "rows_read: 'a]b' is not: table"),
        (lambda: naive.latency_p50_s("GET /a / GET /b"), "is not: request name"),
        (lambda: naive.fit_slope("latncy"), "is not: latency, plan_rows_visited or plan_blks"),
        (lambda: naive.cpu_marginal_s_per_request("rabbit"), "is not: server, postgres, redis or celery"),
        (lambda: naive.service_reading("cl_waiting"), "is not: service.name"),
        (lambda: naive.latency_p50_s(""), "is not: request name"),
        (lambda: naive.latency_p50_s / naive.latency_p50_s / naive.latency_p50_s, "a ratio has two metrics"),
    ],
)
def test_an_argument_that_a_metric_cannot_read_fails_at_once(write: "object", says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        write()  # type: ignore[operator]


def test_units() -> None:
    assert unit_of("latency_p50_s") == "s"
    assert unit_of("cpu_marginal_s_per_request", "server") == "s/request"
    assert unit_of("cpu_idle_cores") == "cores"
    assert unit_of("final", "idle_s") == "s"
    assert unit_of("observed", "lost") == ""
    assert unit_of("observed_per_request", "idle_s") == "per request"
    assert unit_of("sql_calls", "loads_s") == "", "the name of a query is no unit"
    assert own_unit("rate") == ""
    with pytest.raises(KeyError):
        unit_of("latency_p98_s")


def asking(metric: str) -> Scenario:
    """A scenario that declares one query and one final read, and claims something of one metric."""
    claim = Claim("mine", "harm", "s", metric, predict=lambda _: 1.0, formula="1", source="s")  # type: ignore[arg-type]
    return Scenario(
        "t", "c", (1,), (), (Condition("one", ClosedLoad(1)),), (claim,), (), (), "a",
        queries={"load": "SELECT %"}, final_reads=(FinalRead("lost", sql="SELECT 1"),),
    )  # fmt: skip


def test_what_is_declared_may_be_asked_for() -> None:
    for metric in (naive.sql_calls("load"), naive.sql_calls, correct.final("lost"), naive.rows_read("anything")):
        require_values(asking(metric))


def test_a_chart_over_the_levels_needs_no_argument() -> None:
    chart = Chart("sweep", each.latency_at_level_s, "t", x="level")
    require_values(replace(asking(naive.throughput_rps), charts=(chart,)))
    with pytest.raises(ValueError, match="latency_at_level_s needs an argument: level"):
        require_values(replace(asking(naive.throughput_rps), charts=(replace(chart, x="users"),)))


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        ("naive.throughput_rps", "claim mine: 'naive.throughput_rps' is a text"),
        (naive.sql_calls("laod"), "naive.sql_calls[laod] names nothing; there are "),
        (naive.final("lsot"), "naive.final[lsot] names nothing"),
        (naive.plan_blks("first"), "names nothing; there are none"),
        (Notation("naive.latency_p98_s"), "claim mine: there is no metric 'latency_p98_s'"),
        (naive.observed, "observed needs an argument: name the user class gave"),
        (naive.throughput_rps / naive.final, "final needs an argument"),
    ],
)
def test_what_is_not_declared_is_refused(metric: Notation, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        require_values(asking(metric))


@pytest.mark.parametrize(
    ("text", "name", "amount"),
    [("pass", "pass", 0), (delay(5), "delay", 5), (drop_replies(0.25), "drop_replies", 0.25),
     (drop_first_replies(20), "drop_first_replies", 20)],
)  # fmt: skip
def test_a_mode_of_the_proxy(text: str, name: str, amount: float) -> None:
    mode = mode_of(text)
    assert (mode.name, mode.amount, mode) == (name, amount, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stal", "unknown mode 'stal'; there are pass, delay,"),
        ("cut:3", "cut takes no amount"),
        ("delay", "delay takes milliseconds"),
        ("delay:soon", "delay takes milliseconds"),
        ("delay:nan", "delay takes milliseconds"),
        ("delay:-1", "delay takes milliseconds"),
        ("drop_replies:1.5", "drop_replies takes a probability, from 0 to 1"),
    ],
)
def test_a_text_that_is_no_mode(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        mode_of(text)
    with pytest.raises(ValueError, match=re.escape(says)):
        Proxy("redis", text)
    with pytest.raises(ValueError, match=re.escape(says)):
        Event(1.0, "fault", statement=text)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_is_formatted_like_the_rest(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert not [line for line in lines if "fmt:" in line]
    assert max(map(len, lines)) <= 150


def test_where_a_claim_speaks() -> None:
    load = ClosedLoad(2)
    control, duet, users = (
        Condition("alone", load, control=True),
        Condition("together", load, duet=True),
        Condition("20 users", load, params={"users": 20}),
    )
    every = (control, duet, users)
    assert [in_control(1.0)(one) for one in every] == [1.0, None, None]
    assert [in_duet(2.0)(one) for one in every] == [None, 2.0, None]
    assert [under("20 users", "alone", value=0.0)(one) for one in every] == [0.0, None, 0.0]
    assert [having("users", value=lambda c: 3 * c.number("users"))(one) for one in every] == [None, None, 60.0]
    assert [having("users", "workers", value=1.0)(one) for one in every] == [None, None, None]
