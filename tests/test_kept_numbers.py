"""Numbers and sentences that a small change of the rules would turn without another test seeing it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from analysis.alike import _OneGotcha
from analysis.diff import environments_differ, why_not_timed
from analysis.frames import memory_trial
from analysis.metrics.overload import backlogs
from lab.model import Condition, OpenLoad
from lab.target.inside.rows import SERVER_COLUMNS, SERVER_ROW_BYTES
from lab.words.record import Environment
from tests.fakes import gotcha_plan
from tests.scripted import CONDITION, FAILED, claim, judged, run_of
from tests.test_gates import judged as gate_of
from tests.test_gates import made

P50 = "naive.latency_p50_s"
LOAD = OpenLoad(500.0)
HERE = Environment("CPython 3.11", "Linux", "a CPU", 2, 1, {}, {}, {}, {}, {})


def test_the_bystander_s_interval_has_its_upper_end_above_the_lower_one() -> None:
    spread = [0.005 + 0.0005 * k for k in range(20)]
    assert gate_of("G8", made(LOAD, 1000, extra={"probe_client": {"times_s": spread}}), LOAD, 2.0).passed is True


def test_what_never_left_is_said_and_only_then() -> None:
    assert gate_of("G2", made(LOAD, 1000), LOAD, 2.0).detail == "every planned request left"
    assert "5 of 1000 requests never left" in gate_of("G2", made(LOAD, 1000, never_sent=5), LOAD, 2.0).detail


def test_no_data_is_none_of_the_pairs(tmp_path: Path) -> None:
    found = judged(tmp_path, {"naive": (FAILED,) * 3}, claim(P50, 0.1), pairs=3).claims[0].at_headline
    assert (found.pairs, found.planned) == (0, 3)


def test_machines_differ_whichever_comes_first() -> None:
    def stored(cpu: str) -> Any:
        plan = SimpleNamespace(mode="quick", seed=1)
        return SimpleNamespace(environment=replace(HERE, cpu_model=cpu), plan=plan)

    one, other = stored("a CPU"), stored("b CPU")
    assert why_not_timed(one, other).startswith("another machine")
    assert why_not_timed(other, one).startswith("another machine")
    assert not why_not_timed(one, stored("a CPU"))
    assert environments_differ(one.environment, other.environment) == ("CPU: a CPU -> b CPU",)
    assert environments_differ(other.environment, one.environment) == ("CPU: b CPU -> a CPU",)


def test_a_run_reduced_to_one_gotcha_keeps_that_one_s_trials(tmp_path: Path) -> None:
    run = run_of(tmp_path, {"naive": (0.1, 0.1)}, gotcha_plan(claim(P50, 0.1), conditions=(CONDITION,)), pairs=2)
    slug = run.plan.gotchas[0].slug
    assert _OneGotcha(run, slug).plan.trials == run.plan.trials
    assert cast(Any, _OneGotcha(run, "another")).plan.trials == ()


def test_a_row_of_the_wrapper_is_eight_bytes_a_column() -> None:
    assert len(SERVER_COLUMNS) * 8 == SERVER_ROW_BYTES


@pytest.mark.parametrize(("final", "overloaded"), [(60, False), (130, True)])
def test_a_backlog_is_an_overload_beyond_three_deviations_of_what_arrived(final: int, overloaded: bool) -> None:
    trial = made(LOAD, 1000)
    planned = trial.column("planned_ns")
    late_s = np.maximum(np.arange(1000) - 500, 0) / 500 * final / 500  # nothing waits in the first half, then ever more
    names = ("planned_ns", "dispatched_ns", "sent_ns", "status", "pid")
    columns = {name: trial.column(name) for name in names}
    columns["done_ns"] = planned + (late_s * 1e9).astype(np.int64) + 1
    (found,) = backlogs(memory_trial(trial.record, columns), Condition("one", LOAD, 2.0))
    assert found.final > 3 * 1000**0.5 / 10 * 2 and found.overloaded is overloaded
