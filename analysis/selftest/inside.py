"""What the wrapper must see in the worker: a loop that is blocked, threads that are borrowed."""

from analysis.frames import Trial
from analysis.selftest.material import Figures, Material, number, word
from lab.model import Condition, GotchaPlan
from lab.selftest.apps import HELD_S
from lab.selftest.plan import THREAD_BURSTS, THREADS

LAG_TOLERANCE_S = 0.010
"""A tick is due up to 5 ms after a block begins, and that much of the block is no lateness; the other half is for the scheduler."""
SHARE_BLOCKED = 0.5


def _blocked_share(trial: Trial, block_s: float) -> float:
    """The share of the load's time in which a request held the loop."""
    record = trial.record
    return len(trial.column("outcome")) * block_s / ((record.load_ended_ns - record.load_started_ns) / 1e9)


def _block(gotcha: GotchaPlan, condition: Condition, trial: Trial) -> Figures:
    planted_s, really_s = condition.number("block_s"), trial.record.final_reads["longest_s"]
    largest_s, median_s = (number(trial, gotcha, condition, f"loop_lag_{which}_s") for which in ("max", "p50"))
    often = _blocked_share(trial, planted_s) > SHARE_BLOCKED
    # Between seldom blocks the loop sleeps, and may be woken late: that is lag too, and not the app's.
    right = really_s - LAG_TOLERANCE_S <= largest_s and (not often or largest_s <= really_s + LAG_TOLERANCE_S)
    median_right = abs(median_s - planted_s) <= LAG_TOLERANCE_S if often else median_s <= LAG_TOLERANCE_S
    return {
        "label": condition.label, "planted_s": planted_s, "really_s": really_s, "max_s": largest_s, "p50_s": median_s, "often": often,
        "ok": right and median_right,
    }  # fmt: skip


def blocked_figures(material: Material) -> Figures:
    """The lag that was read against the longest block that really was, as the app took it; the median against what was planted."""
    gotcha = material.part("blocked")
    rows = [_block(gotcha, condition, trial) for condition, trial in material.by_condition("blocked")]
    return {"ok": all(row["ok"] for row in rows), "blocks": rows}


def blocked_said(found: Figures) -> str:
    """For the reader."""
    return "; ".join(
        f"{row['really_s'] * 1e3:.0f} ms at a time, {'more' if row['often'] else 'less'} than half of the time: "
        f"read at most {row['max_s'] * 1e3:.0f} ms, median {row['p50_s'] * 1e3:.0f} ms {word(row['ok'])}"
        for row in found["blocks"]
    )  # fmt: skip


def threads_figures(material: Material) -> Figures:
    """Bursts of as many requests as AnyIO lends threads, each held for a moment: exactly so many are read."""
    ((condition, trial),) = material.by_condition("threads")
    read = number(trial, material.part("threads"), condition, "threads_borrowed_max")
    return {"ok": read == THREADS, "planted": THREADS, "read": read}


def threads_said(found: Figures) -> str:
    """For the reader."""
    return f"{found['planted']} threads borrowed for {HELD_S * 1e3:.0f} ms, {THREAD_BURSTS} times: read {found['read']:.0f} {word(found['ok'])}"
