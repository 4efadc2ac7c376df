"""G1-G4, G11 and G12: what the generator says of itself.  Each looks at the trials of one pair."""

from functools import reduce
from operator import add

from analysis.facts import Histogram, TrialFacts
from analysis.gates.cell import TAIL, Cell, Outcome, skip, tail_refuted
from analysis.gates.thresholds import limit


def _merged(histograms: list[Histogram]) -> Histogram:
    return reduce(add, histograms)


def dispatch_lag(cell: Cell) -> Outcome:
    """G1.  The tail of the lag against the same tail of the smaller time, its median too, and the medians of the arms with each other.

    A lag below the timer's own floor is in both arms alike: that is asked of their difference.
    """
    if not cell.is_open:
        return skip("not an open load: nothing is scheduled")
    arms = {v: (_merged([t.lag for t in ts]), _merged([t.service for t in ts])) for v, ts in cell.arms().items()}
    lags = {variant: lag for variant, (lag, _) in arms.items() if lag.total}
    if not lags:
        return skip("no request was dispatched")
    services = [service for _, service in arms.values() if service.total]
    smaller = {q: min((s.quantile_s(q) for s in services), default=0.0) for q in (0.5, 1 - TAIL)}
    most_s = max(limit("lag_p99_s"), limit("lag_share") * smaller[1 - TAIL])
    p99s = {variant: lag.quantile_s(1 - TAIL) for variant, lag in lags.items()}
    for variant, lag in lags.items():
        if tail_refuted(lag.above(most_s), lag.total, p99s[variant], most_s):
            return Outcome(False, p99s[variant], most_s, f"{variant}: p99 lag {p99s[variant] * 1e3:.2f} ms")
    medians = [lag.quantile_s(0.5) for lag in lags.values()]
    most_median_s = max(limit("lag_floor_s"), limit("lag_share") * smaller[0.5])
    apart_s = max(medians) - min(medians)
    if max(medians) > most_median_s:
        return Outcome(
            False,
            max(medians),
            most_median_s,
            f"median lag {max(medians) * 1e3:.2f} ms beside a time of {smaller[0.5] * 1e3:.2f} ms",
        )
    if smaller[0.5] and apart_s > limit("lag_share") * smaller[0.5]:
        return Outcome(
            False, apart_s, limit("lag_share") * smaller[0.5], f"the arms' median lags differ by {apart_s * 1e3:.2f} ms"
        )
    return Outcome(
        True,
        max(p99s.values()),
        most_s,
        f"p99 lag {max(p99s.values()) * 1e3:.2f} ms, median {max(medians) * 1e3:.3f} ms",
    )


def _missing(trial: TrialFacts) -> tuple[int, int] | None:
    """Requests that never left, and all that were planned; None where an old record cannot tell our queue from the target's.

    A connection that the target refused is its own answer to a request.
    """
    seen = trial.record.generator
    if seen is not None and seen.never_sent is not None:
        return max(seen.never_sent - trial.rows.refused, 0), max(seen.planned, 1)
    if trial.overloaded:
        return None
    counted = seen.planned - seen.sent if seen is not None else 0
    return max(trial.unsent, counted), max(trial.requests, seen.planned if seen else 0, 1)


def offered_is_sent(cell: Cell) -> Outcome:
    """G2.  A queue for connections of ours fails it whatever the load; an overload is no excuse: connections are opened as needed."""
    for trial in cell.trials:
        seen = trial.record.generator
        if seen is not None and seen.connections_short > limit("connections_short"):
            why = f" ({seen.connection_problem})" if seen.connection_problem else ""
            detail = f"{trial.name}: the generator ran out of connections{why}: {seen.connections_short} requests waited for one"
            return Outcome(False, float(seen.connections_short), limit("connections_short"), detail)
    if not cell.is_open:
        return skip("not an open load: there is no offered rate")
    found = [(trial, missing) for trial in cell.trials if (missing := _missing(trial)) is not None]
    if not found:
        return skip("overloaded, and an older record does not say whether connections ran out")
    trial, (left_out, planned) = max(found, key=lambda one: one[1][0] / one[1][1])
    share = left_out / planned
    detail = f"{trial.name}: {left_out} of {planned} requests never left" if left_out else "every planned request left"
    return Outcome(share <= limit("unsent_share"), share, limit("unsent_share"), detail)


def generator_cpu(cell: Cell) -> Outcome:
    """G3."""
    windows = [share for t in cell.trials if t.record.generator for share in t.record.generator.cpu_windows]
    if not windows:
        return skip("the load was shorter than one 1 s window")
    return Outcome(max(windows) < limit("generator_cpu"), max(windows), limit("generator_cpu"),
                   f"busiest second {max(windows):.0%} of its core")  # fmt: skip


def jitter(cell: Cell) -> Outcome:
    """G4.  Sleeps while the users are made are no part of it."""
    seen = [(t.name, g) for t in cell.trials if (g := t.record.generator) is not None]
    if not seen:
        return skip("the generator said nothing about itself")
    name, longest = max(seen, key=lambda one: one[1].jitter_max_s)
    pause_s = longest.jitter_max_s
    if pause_s > limit("jitter_max_s"):
        return Outcome(
            False, pause_s, limit("jitter_max_s"), f"{name}: a sleep of 10 ms came back {pause_s * 1e3:.0f} ms late"
        )
    counted = [(name, g, g.jitter_samples) for name, g in seen if g.jitter_samples is not None]
    if not counted:
        return skip("an older record does not count the sleeps")
    for name, g, count in counted:
        if tail_refuted(g.jitter_late, count, g.jitter_p99_s, limit("jitter_p99_s")):
            return Outcome(
                False,
                g.jitter_p99_s,
                limit("jitter_p99_s"),
                f"{name}: {g.jitter_late} of {count} sleeps came back more than 5 ms late",
            )
    worst = max(g.jitter_p99_s for _, g, _ in counted)
    late, count = sum(g.jitter_late for _, g, _ in counted), sum(count for *_, count in counted)
    return Outcome(True, worst, limit("jitter_p99_s"), f"{late} of {count} sleeps came back more than 5 ms late")


def warm_up(cell: Cell) -> Outcome:
    """G11.  An overload is never steady: there it says nothing."""
    asked = [t for t in cell.trials if t.record.generator is not None and t.record.generator.steady is not None]
    if not asked:
        return skip("there is no warm-up")
    judged = [t for t in asked if not t.overloaded]
    if not judged:
        return skip("overloaded: the backlog grows for as long as the load lasts")
    for trial in judged:
        seen = trial.record.generator
        if seen is not None and seen.steady is False:
            detail = f"{trial.name}: not steady after {seen.warmup_s or 0.0:.1f} s of warm-up, prolonged {seen.warmup_extensions} times"
            return Outcome(False, float(seen.warmup_extensions), None, detail)
    longest = max(t.record.generator.warmup_s or 0.0 for t in judged if t.record.generator)
    return Outcome(True, longest, None, f"steady after {longest:.1f} s at the latest")


def even_spread(cell: Cell) -> Outcome:
    """G12."""
    if not cell.condition.load.spread:
        return skip("the load does not ask for an even spread")
    seen = [(t.name, g) for t in cell.trials if (g := t.record.generator) is not None and g.spread_even is not None]
    if not seen:
        return skip("an older record does not say how the connections were spread")
    for name, g in seen:
        if not g.spread_even:
            shares = ", ".join(str(count) for count in sorted(g.spread.values())) or "none"
            detail = f"{name}: connections at {len(g.spread)} of {cell.condition.workers} workers: {shares}"
            return Outcome(False, float(len(g.spread)), float(cell.condition.workers), detail)
    return Outcome(
        True,
        float(len(seen[0][1].spread)),
        float(cell.condition.workers),
        "every worker has its share of the connections",
    )
