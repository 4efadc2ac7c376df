"""G5 and G10: the rows against what others counted, so that nothing is lost, doubled or invented on the way.  Of the trials of one pair."""

from analysis.facts import TrialFacts
from analysis.gates.cell import Cell, Outcome, skip
from analysis.gates.thresholds import limit
from lab.model import Condition
from lab.words.loads import ASKED_OTHERWISE

NOT_THE_SERVER = ("sql", "redis", "fault")
"""Actions of events that leave the server's processes alone."""


def littles_law(cell: Cell) -> Outcome:
    """G5.  Requests in flight (counted when each began and ended, apart from the rows) against the number of rows x their mean time.

    The count begins when a request is handed to its connection, so it lies between the rows' times from the handing over and those
    from the sending.
    """
    judged = [
        (t, g.in_flight_s) for t in cell.trials if (g := t.record.generator) is not None and g.in_flight_s is not None
    ]
    if not judged:
        return skip("an older record does not count what is in flight apart from the rows")
    worst, detail = 0.0, ""
    for trial, counted_s in judged:
        rows = trial.rows
        wall_s = max((trial.record.load_ended_ns - trial.record.load_started_ns) / 1e9, 1e-9)
        off = max(rows.service_s - counted_s, counted_s - rows.dispatched_s, 0.0) / max(counted_s, rows.service_s, 1e-9)
        if off >= worst:
            worst = off
            detail = f"{trial.name}: in flight {counted_s / wall_s:.3g}, rows x mean time {rows.service_s / wall_s:.3g}"
    return Outcome(worst <= limit("littles_law"), worst, limit("littles_law"), detail)


def _uncountable(trial: TrialFacts, condition: Condition) -> str:
    """Why the workers' counters cannot be compared with the rows at all, or ""."""
    if trial.handled is None:
        return "the workers' counters are not there (no wrapper, or an older record)"
    actions = {e.action for e in condition.events if e.action not in NOT_THE_SERVER and not e.whom.startswith("celery")}
    if actions:
        return f"an event ended workers ({', '.join(sorted(actions))}): their last rows are lost"
    return f"{trial.lost_workers} workers ended without a last row" if trial.lost_workers else ""


def _between(trial: TrialFacts, condition: Condition) -> tuple[int, str]:
    """How many requests the rows and the workers disagree about, and how.

    Equal where every request got its answer.  Where some were cut off or sent again, or a proxy stands in between, nobody knows whether
    these reached a worker: then the workers must have begun at least as many as they answered and at most as many as were sent.  The same
    where the scenario asked over connections of its own, of which there are no rows.
    """
    seen, rows = trial.record.generator, trial.rows
    assert trial.handled is not None and seen is not None
    proxied = condition.proxy is not None and condition.proxy.where == "target"
    begun = trial.handled.requests
    otherwise = round(trial.record.observed.get(ASKED_OTHERWISE, 0))
    if not (rows.broken or seen.resent or proxied or otherwise):
        return abs(begun - rows.stamped), f"{rows.stamped} answers from workers that handled {begun} requests"
    most = rows.sent + seen.resent + otherwise
    said = f"{rows.stamped} answers from workers that handled {begun} of {most} requests sent"
    return max(rows.stamped - begun, begun - most, 0), said


def _off(trial: TrialFacts, condition: Condition) -> tuple[int, str]:
    """How many rows one trial is off by, and what was compared; the largest of all comparisons."""
    seen, rows = trial.record.generator, trial.rows
    assert seen is not None and seen.rows is not None
    found = [
        (rows.impossible, f"{rows.impossible} rows that cannot be"),
        (abs(seen.rows - rows.count), f"{rows.count} rows of {seen.rows} that the generator wrote"),
        (abs(seen.sent - rows.sent), f"{rows.sent} rows of {seen.sent} requests sent"),
    ]
    if seen.never_sent is not None:
        counted = seen.sent + seen.never_sent
        found.append(
            (abs(seen.planned - counted), f"{seen.planned} planned, {seen.sent} sent and {seen.never_sent} not")
        )
    if not _uncountable(trial, condition):
        found.append(_between(trial, condition))
    return max(found, key=lambda one: one[0])


def rows_counted(cell: Cell) -> Outcome:
    """G10.  Planned = sent + never sent; rows = what the generator wrote; answers = what the workers handled.  One row off fails it."""
    judged = [t for t in cell.trials if t.record.generator is not None and t.record.generator.rows is not None]
    if not judged:
        return skip("an older record does not count rows and requests apart")
    results = [(*_off(trial, cell.condition), trial) for trial in judged]
    off, detail, trial = max(results, key=lambda one: one[0])
    if off > limit("rows_off"):
        return Outcome(False, float(off), limit("rows_off"), f"{trial.name}: {detail}")
    total = sum(t.rows.count for t in judged)
    unseen = {why for t in judged if (why := _uncountable(t, cell.condition))}
    by = f"not by the workers: {'; '.join(sorted(unseen))}" if unseen else "and by the workers"
    return Outcome(True, 0.0, limit("rows_off"), f"{total} rows counted by the generator, {by}")
