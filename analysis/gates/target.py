"""G6-G9: the target, a bystander and the machine.  G6 and G7 look at a whole condition, G8 and G9 at the trials of one pair."""

import math
from collections.abc import Iterator, Sequence

from scipy import stats

from analysis.facts import TrialFacts
from analysis.frames import is_timed
from analysis.gates.cell import Cell, Outcome, skip
from analysis.gates.thresholds import limit
from lab.model import Condition, Load
from lab.words.record import TrialRecord


def null_target(cell: Cell) -> Outcome:
    """G6.  The ceiling is measured at the start of each run and stored with it."""
    if not is_timed(cell.condition):
        return skip("not a steady rate")
    if cell.ceiling_rps is None:
        return skip("the generator's ceiling could not be measured in this run")
    shares = [
        (rate / (cell.ceiling_rps * (t.record.generator.processes if t.record.generator else 1)), rate)
        for t in cell.trials if (rate := t.number("throughput_rps")) is not None
    ]  # fmt: skip
    if not shares:
        return skip("no rate was measured")
    share, rate = max(shares)
    return Outcome(share < limit("ceiling_share"), share, limit("ceiling_share"),
                   f"{rate:.0f}/s against a ceiling of {cell.ceiling_rps:.0f}/s")  # fmt: skip


def _mean_rate(trials: Sequence[TrialFacts], variant: str) -> float | None:
    rates = [rate for t in trials if t.variant == variant and (rate := t.number("throughput_rps")) is not None]
    return sum(rates) / len(rates) if rates else None


def _reconnects(condition: Condition) -> bool:
    """Whether users open a connection for each request: then they also wait for the target before anything is in flight."""
    return condition.load.fresh_connections


def _waiting_users(trial: TrialFacts, condition: Condition) -> float:
    """How many users of a closed load wait for an answer at a time, if all that do not think do: by Little's law the rate x their thinking do."""
    load = condition.load
    return max(load.population - load.pause_s * (trial.number("throughput_rps") or 0.0), 0.0)


def saturation(trial: TrialFacts, condition: Condition, fewer: Sequence[TrialFacts]) -> dict[str, bool]:
    """Which resources of the server were exhausted: what a plateau may be waiting for.  ``fewer`` are trials with fewer users.

    The loop counts by the share of time that it was late, not by one late moment; users are held where most of them wait at the peak and
    on the average, not where they only began at once.
    """
    busy = {name: trial.cores_used(name) or 0.0 for name in trial.record.processes}
    lag, threads = trial.number("loop_lag_p50_s"), trial.number("threads_borrowed_max")
    held = trial.number("server_in_flight_max")
    users = _waiting_users(trial, condition)
    peak = trial.record.activity.get("total", 0)
    return {
        "server CPU": busy.get("server", 0.0) >= limit("saturated") * condition.workers,
        "database CPU": busy.get("postgres", 0.0) >= limit("saturated"),
        "redis CPU": busy.get("redis", 0.0) >= limit("saturated"),
        "event loop": lag is not None and lag >= limit("blocked_loop_s"),
        "threads": threads is not None and threads >= limit("thread_tokens"),
        "held by the server": held is not None and users > 0 and held * condition.workers >= limit("saturated") * users
        and (_reconnects(condition) or trial.mean_in_flight >= limit("saturated") * users),
        "pool": peak > 0 and any(other.record.activity.get("total", 0) == peak for other in fewer),
    }  # fmt: skip


def _plateaus(cell: Cell, load: Load) -> Iterator[Outcome]:
    """Every variant whose rate did not grow from a condition of fewer users on the same server, and what explains it."""
    for condition, trials in cell.beside:
        other = condition.load
        if (
            not other.population
            or condition.server != cell.condition.server
            or 1.5 * other.population > load.population
        ):
            continue
        for variant, own in cell.arms().items():
            before, after = _mean_rate(trials, variant), _mean_rate(own, variant)
            if not before or after is None or after >= before * (1 + limit("plateau_growth")):
                continue
            fewer = [t for t in trials if t.variant == variant]
            found = {name for t in own for name, full in saturation(t, cell.condition, fewer).items() if full}
            growth, what = after / before - 1, ", ".join(sorted(found)) or "nothing"
            detail = f"{variant}: {growth:+.0%} from {other.population} to {load.population} users; {what} exhausted"
            yield Outcome(bool(found), growth, limit("plateau_growth"), detail)


def server_bound(cell: Cell) -> Outcome:
    """G7.  A plateau is seen where the sweep has the same server with fewer users; one without an explanation fails it."""
    load = cell.condition.load
    if not load.population or not is_timed(cell.condition):
        return skip("not a closed load: throughput is what was offered")
    found = list(_plateaus(cell, load))
    if not found:
        return skip("no plateau: throughput grew with the users, or there is nothing to compare with")
    return next((one for one in found if one.passed is False), found[0])


def _probe_times(trial: TrialFacts) -> list[float]:
    """What the bystander saw, in order; what failed or never came took infinitely long.  An older record has only the answers."""
    extra = trial.record.extra
    every = extra["probe_client"]["times_s"] if "probe_client" in extra else extra.get("probe_client_s", ())
    return sorted(math.inf if one is None else float(one) for one in every)


def _median_s(trial: TrialFacts) -> float:
    """The median of our own requests as the bystander counts its own: what was no success took infinitely long, but in an older record."""
    good = trial.service.total
    every = max(trial.lag.total, good) if "probe_client" in trial.record.extra else good
    rank = math.ceil(every / 2)
    return trial.service.quantile_s((rank - 0.5) / good) if rank <= good else math.inf


def _ms(seconds: float) -> str:
    return "never" if seconds == math.inf else f"{seconds * 1e3:.2f} ms"


def probe_client(cell: Cell) -> Outcome:
    """G8.  The order-statistic interval of the bystander's median must meet ours; less apart than two clients wake is not seen."""
    seen = [(t, times) for t in cell.trials if t.service.total and not t.overloaded and (times := _probe_times(t))]
    if not seen:
        return skip("no probe client ran beside this load")
    worst, detail = 0.0, "the probe client saw the same median"
    for trial, times in seen:
        low_rank = int(stats.binom.ppf((1 - limit("probe_client_level")) / 2, len(times), 0.5))
        low, high = times[max(low_rank - 1, 0)], times[min(len(times) - low_rank, len(times) - 1)]
        ours = _median_s(trial)
        if low <= ours <= high:  # both may be "never": the target fails most of what it is asked
            continue
        off, apart_s = max(low / ours, ours / high) - 1, max(low - ours, ours - high)
        if off > worst and apart_s > limit("probe_client_floor_s"):
            said = f"our median {_ms(ours)}, the probe's {_ms(low)} to {_ms(high)}"
            worst, detail = off, f"{trial.name}: {said}"
    return Outcome(worst <= limit("probe_client_slack"), worst, limit("probe_client_slack"), detail)


def disturbance(record: TrialRecord) -> tuple[float, str]:
    """How far the worst kind of noise is above its threshold (1 = at it), and which; 0 where nothing was recorded."""
    worst, which = 0.0, ""
    for name in ("steal_share", "foreign_cpu_share", "cores_missing_share"):
        value = record.noise.get(name)
        if value is not None and value / limit(name) > worst:
            worst, which = value / limit(name), f"{name} {value:.3g} (limit {limit(name):g})"
    return worst, which


def noise(cell: Cell) -> Outcome:
    """G9."""
    recorded = [t for t in cell.trials if t.record.noise]
    if not recorded:
        return skip("the machine's noise was not recorded")
    worst, which, name = max((*disturbance(t.record), t.name) for t in recorded)
    return Outcome(worst <= 1, worst, 1.0, f"{name}: {which}" if which else "quiet")
