"""CPU time is expressed at the speed of the best pulse, where the target had cores of its own."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.frames import Trial, memory_trial
from analysis.metrics import measure
from analysis.speed import slowdown
from lab.model import Condition, OpenLoad
from lab.record import ProcessUse, PulseSeen, TrialRecord
from tests.fakes import gotcha_plan

PINNED = {"generator": (1,), "target": (0,)}
RECORD = TrialRecord(
    "event_loop/example", "one", 0, "naive", 5, "ok", load_started_ns=1, load_ended_ns=1_000, affinity=PINNED,
    processes={"server": ProcessUse(4_000_000, 0, 1)},
    pulse=PulseSeen(100, ((10, 150), (20, 200), (30, 250), (510, 100), (520, 100), (530, 100))),
)  # fmt: skip


def trial_of(record: TrialRecord) -> Trial:
    """A trial with two answers."""
    return memory_trial(record, {"outcome": np.zeros(2, dtype=np.int64), "done_ns": np.array([100, 900])})


def test_the_slowdown_is_the_mean_pulse_over_the_best_in_the_stretch_asked_for() -> None:
    assert slowdown(RECORD) == 1.5
    assert slowdown(RECORD, 0, 500) == 2.0
    assert slowdown(RECORD, 500, 1_000) == 1.0


@pytest.mark.parametrize(
    "record",
    [
        replace(RECORD, affinity={}),
        replace(RECORD, pulse=None),
        replace(RECORD, pulse=PulseSeen(0, RECORD.pulse.rows if RECORD.pulse else ())),
        replace(RECORD, pulse=PulseSeen(100, ((10, 150), (20, 200)))),
    ],
    ids=["cores were shared", "not watched", "no best", "two pulses"],
)
def test_where_a_pulse_says_nothing_cpu_time_stands_as_it_was_read(record: TrialRecord) -> None:
    assert slowdown(record) is None
    condition = Condition("one", OpenLoad(10.0), duration_s=1.0)
    plan = gotcha_plan(conditions=(condition,))
    assert measure(trial_of(record), plan, condition, "cpu_server_s_per_request") == 0.002


def test_cpu_per_request_is_that_of_the_best_moment() -> None:
    condition = Condition("one", OpenLoad(10.0), duration_s=1.0)
    plan = gotcha_plan(conditions=(condition,))
    found = measure(trial_of(RECORD), plan, condition, "cpu_server_s_per_request")
    assert found == pytest.approx(0.002 / 1.5)
