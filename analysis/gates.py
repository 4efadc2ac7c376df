"""Gates G1-G9: what must hold before a number is believed.  Thresholds stand in one table, each with its source.

A gate is a pure function of the trials of one condition.  It invalidates only the families of metrics that it is about: a generator
that is late spoils times, not the number of rows that a query read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from scipy import stats

from analysis.facts import Histogram, TrialFacts
from analysis.frames import is_timed
from analysis.metrics import Family, claimed_families
from analysis.model import GateResult
from lab.model import ClosedLoad, Condition, GotchaPlan, OpenLoad, StagedLoad
from lab.record import TrialRecord


@dataclass(frozen=True)
class Threshold:
    """A limit and where it comes from."""

    value: float
    unit: str
    source: str


THRESHOLDS = {
    "lag_p99_s": Threshold(0.001, "s", "method.md G1: a timerfd dispatcher reaches 0.19 ms on an idle core; 1 ms is five times that"),
    "lag_share_of_p50": Threshold(0.10, "", "method.md G1: a lag below a tenth of the smaller median cannot change who wins"),
    "unsent_share": Threshold(0.02, "", "method.md G2; wrk2 and k6 report a rate not held within 2 %"),
    "generator_cpu": Threshold(0.80, "", "method.md G3: queueing at a server that is 80 % busy multiplies its time by five (M/M/1)"),
    "jitter_p99_s": Threshold(0.005, "s", "method.md G4; Treadmill (ISCA 2016) section 3: client-side queueing biases the tail"),
    "jitter_max_s": Threshold(0.100, "s", "method.md G4: a pause of 100 ms is a pause of ours in any p99"),
    "littles_law": Threshold(0.05, "", "method.md G5; Lancet (USENIX ATC 2019) checks the same identity"),
    "window_times": Threshold(40.0, "", "arithmetic: below 40 mean times (closed load: longest ones) in the window its edges exceed half of the 5 %"),
    "ceiling_share": Threshold(0.50, "", "method.md G6"),
    "plateau_growth": Threshold(0.10, "", "method.md G7: 1.5 times the users for less than 10 % more"),
    "saturated": Threshold(0.80, "", "method.md G7: a resource that is 80 % busy is what a plateau waits for"),
    "blocked_loop_s": Threshold(0.010, "s", "the loop's timer of 5 ms came another 10 ms late: it was busy two thirds of that time"),
    "thread_tokens": Threshold(40, "threads", "anyio's default limiter: anyio._backends._asyncio, CapacityLimiter(40)"),
    "probe_client_level": Threshold(0.99, "", "method.md G8: order-statistic interval of the probe client's quantile"),
    "probe_client_slack": Threshold(0.10, "", "method.md G8; PASTA: Poisson probes see time averages (Wolff 1982)"),
    "steal_share": Threshold(0.05, "", "method.md G9: as foreign_cpu_share, a tenth of one of two cores"),
    "foreign_cpu_share": Threshold(0.10, "", "method.md G9: a tenth of a core taken by others is as large as the equivalence band"),
}  # fmt: skip
"""Every number that a gate compares with."""

JITTER_SLEEP_S = 0.01
JITTER_SAMPLES = 368  # below these a p99 has no two-sided 95 % interval (method.md section 3): it would be the maximum under another name

_TIMED: frozenset[Family] = frozenset({"time", "rate"})


@dataclass(frozen=True)
class Gate:
    """A gate: what it is called, what it spoils, what to do, and its check."""

    name: str
    title: str
    spoils: frozenset[Family]
    advice: str
    check: "Callable[[Cell], Outcome]"


@dataclass(frozen=True)
class Cell:
    """What a gate sees: the finished trials of one condition, the conditions of the same gotcha beside it, and the generator's ceiling."""

    condition: Condition
    trials: Sequence[TrialFacts]
    beside: Sequence[tuple[Condition, Sequence[TrialFacts]]] = ()
    ceiling_rps: float | None = None

    def arms(self) -> dict[str, list[TrialFacts]]:
        """The trials of each variant."""
        arms: dict[str, list[TrialFacts]] = {}
        for trial in self.trials:
            arms.setdefault(trial.variant, []).append(trial)
        return arms

    @property
    def is_open(self) -> bool:
        """Whether requests are planned at instants of a schedule."""
        return isinstance(self.condition.load, OpenLoad | StagedLoad)


@dataclass(frozen=True)
class Outcome:
    """What a check found: see ``GateResult``."""

    passed: bool | None
    figure: float | None
    threshold: float | None
    detail: str


def skip(detail: str) -> Outcome:
    """The gate does not apply, and why."""
    return Outcome(None, None, None, detail)


def _limit(name: str) -> float:
    return THRESHOLDS[name].value


def _merged(histograms: Sequence[Histogram]) -> Histogram:
    return reduce(add, histograms)


def _generators(cell: Cell) -> list[TrialFacts]:
    return [trial for trial in cell.trials if trial.record.generator is not None]


def dispatch_lag(cell: Cell) -> Outcome:
    """G1.  Lags of an arm's trials are merged; the worse arm counts."""
    if not cell.is_open:
        return skip("not an open load: nothing is scheduled")
    arms = {v: (_merged([t.lag for t in ts]), _merged([t.service for t in ts])) for v, ts in cell.arms().items()}
    if not any(lag.total for lag, _ in arms.values()):
        return skip("no request was dispatched")
    p99 = max(lag.quantile_s(0.99) for lag, _ in arms.values())
    p50 = max(lag.quantile_s(0.50) for lag, _ in arms.values())
    medians = [service.quantile_s(0.5) for _, service in arms.values() if service.total]
    share = p50 / min(medians) if medians else 0.0
    if share > _limit("lag_share_of_p50"):
        return Outcome(
            False, share, _limit("lag_share_of_p50"), f"median lag is {share:.0%} of the smaller median time"
        )
    return Outcome(
        p99 <= _limit("lag_p99_s"), p99, _limit("lag_p99_s"), f"p99 lag {p99 * 1e3:.2f} ms, median {p50 * 1e3:.3f} ms"
    )


def offered_is_sent(cell: Cell) -> Outcome:
    """G2.  In an overload the requests that wait for a connection are the backlog itself: then being handed over counts."""
    if not cell.is_open:
        return skip("not an open load: there is no offered rate")
    worst, detail = 0.0, "every planned request left"
    for trial in cell.trials:
        missing = trial.undispatched if trial.overloaded else trial.unsent
        seen = trial.record.generator
        if seen is not None and not trial.overloaded:
            missing = max(missing, seen.planned - seen.sent)
        share = missing / max(trial.requests, seen.planned if seen else 0, 1)
        if share > worst:
            worst, detail = share, f"{trial.name}: {missing} of {trial.requests} requests never left"
    return Outcome(worst <= _limit("unsent_share"), worst, _limit("unsent_share"), detail)


def generator_cpu(cell: Cell) -> Outcome:
    """G3."""
    windows = [
        share for t in _generators(cell) for share in (t.record.generator.cpu_windows if t.record.generator else ())
    ]
    if not windows:
        return skip("the load was shorter than one 1 s window")
    return Outcome(max(windows) < _limit("generator_cpu"), max(windows), _limit("generator_cpu"),
                   f"busiest second {max(windows):.0%} of its core")  # fmt: skip


def jitter(cell: Cell) -> Outcome:
    """G4."""
    seen = [t.record.generator for t in cell.trials if t.record.generator is not None]
    if not seen:
        return skip("the generator said nothing about itself")
    worst, longest = max(g.jitter_p99_s for g in seen), max(g.jitter_max_s for g in seen)
    if longest > _limit("jitter_max_s"):
        return Outcome(
            False, longest, _limit("jitter_max_s"), f"a sleep of 10 ms came back {longest * 1e3:.0f} ms late"
        )
    shortest_s = min((t.record.load_ended_ns - t.record.load_started_ns) / 1e9 for t in cell.trials)
    if shortest_s < JITTER_SAMPLES * JITTER_SLEEP_S:
        return skip(
            f"a load of {shortest_s:.1f} s holds too few sleeps for their p99; the longest was {longest * 1e3:.0f} ms late"
        )
    return Outcome(worst < _limit("jitter_p99_s"), worst, _limit("jitter_p99_s"), f"p99 overshoot {worst * 1e3:.1f} ms")


def _edge_s(trial: TrialFacts, condition: Condition) -> float:
    """What an edge of the window may cut off of each that is in flight: with few users it is one request, which may be the longest."""
    longest = trial.service.quantile_s(1.0) if isinstance(condition.load, ClosedLoad) and trial.service.total else 0.0
    return max(trial.mean_time_s, longest)


def littles_law(cell: Cell) -> Outcome:
    """G5.  For a closed load the users are the independent count: more in flight than users is impossible."""
    if not is_timed(cell.condition):
        return skip("a burst or a journey has no steady state")
    judged = [t for t in cell.trials if t.requests and not t.overloaded and t.mean_time_s > 0]
    judged = [t for t in judged if t.window_s >= _limit("window_times") * _edge_s(t, cell.condition)]
    if not judged:
        return skip("overloaded, or the window is shorter than 40 times")
    worst = max(judged, key=lambda t: abs(t.mean_in_flight - t.arrival_x_time) / max(t.arrival_x_time, 1e-9))
    figure = abs(worst.mean_in_flight - worst.arrival_x_time) / max(worst.arrival_x_time, 1e-9)
    detail = f"in flight {worst.mean_in_flight:.3g}, throughput x time {worst.arrival_x_time:.3g}"
    load = cell.condition.load
    if isinstance(load, ClosedLoad):
        most = max(t.mean_in_flight for t in judged)
        if most > load.users * (1 + _limit("littles_law")):
            return Outcome(
                False, most / load.users - 1, _limit("littles_law"), f"{most:.3g} in flight from {load.users} users"
            )
    return Outcome(figure <= _limit("littles_law"), figure, _limit("littles_law"), detail)


def null_target(cell: Cell) -> Outcome:
    """G6."""
    rates = [rate for t in cell.trials if (rate := t.number("throughput_rps")) is not None]
    if cell.ceiling_rps is None or not rates:
        return skip("the generator's ceiling was not measured on this machine: `bench.py selftest` does")
    if not is_timed(cell.condition):
        return skip("not a steady rate")
    share = max(rates) / cell.ceiling_rps
    return Outcome(share < _limit("ceiling_share"), share, _limit("ceiling_share"),
                   f"{max(rates):.0f}/s against a ceiling of {cell.ceiling_rps:.0f}/s")  # fmt: skip


def _mean_rate(trials: Sequence[TrialFacts], variant: str) -> float | None:
    rates = [rate for t in trials if t.variant == variant and (rate := t.number("throughput_rps")) is not None]
    return sum(rates) / len(rates) if rates else None


def saturation(trial: TrialFacts, condition: Condition, fewer: Sequence[TrialFacts]) -> dict[str, bool]:
    """Which resources of the server were exhausted: what a plateau may be waiting for.  ``fewer`` are trials with fewer users."""
    processes, wall = trial.record.processes, max(trial.window_s, 1e-9)
    busy = {name: use.cpu_ns / 1e9 / wall for name, use in processes.items()}
    lag, threads = trial.number("loop_lag_max_s"), trial.number("threads_borrowed_max")
    held = trial.number("server_in_flight_max")
    users = condition.load.users if isinstance(condition.load, ClosedLoad) else 0
    peak = trial.record.activity.get("total", 0)
    return {
        "server CPU": busy.get("server", 0.0) >= _limit("saturated") * condition.workers,
        "database CPU": busy.get("postgres", 0.0) >= _limit("saturated"),
        "redis CPU": busy.get("redis", 0.0) >= _limit("saturated"),
        "event loop": lag is not None and lag >= _limit("blocked_loop_s"),
        "threads": threads is not None and threads >= _limit("thread_tokens"),
        "held by the server": held is not None and users > 0 and held * condition.workers >= _limit("saturated") * users,
        "pool": peak > 0 and any(other.record.activity.get("total", 0) == peak for other in fewer),
    }  # fmt: skip


def server_bound(cell: Cell) -> Outcome:
    """G7.  A plateau is seen where the sweep has the same server with fewer users; elsewhere there is nothing to explain."""
    load = cell.condition.load
    if not isinstance(load, ClosedLoad) or not is_timed(cell.condition):
        return skip("not a closed load: throughput is what was offered")
    for condition, trials in cell.beside:
        other = condition.load
        if (
            not isinstance(other, ClosedLoad)
            or condition.server != cell.condition.server
            or 1.5 * other.users > load.users
        ):
            continue
        for variant, own in cell.arms().items():
            before, after = _mean_rate(trials, variant), _mean_rate(own, variant)
            if not before or after is None or after >= before * (1 + _limit("plateau_growth")):
                continue
            fewer = [t for t in trials if t.variant == variant]
            found = {name for t in own for name, full in saturation(t, cell.condition, fewer).items() if full}
            growth = after / before - 1
            detail = (
                f"{variant}: {growth:+.0%} from {other.users} to {load.users} users; "
                + (", ".join(sorted(found)) or "nothing")
                + " exhausted"
            )
            if not found:
                return Outcome(False, growth, _limit("plateau_growth"), detail)
            return Outcome(True, growth, _limit("plateau_growth"), detail)
    return skip("no plateau: throughput grew with the users, or there is nothing to compare with")


def probe_client(cell: Cell) -> Outcome:
    """G8.  Its times stand in ``record.extra["probe_client_s"]``; the order-statistic interval of its median must meet ours."""
    seen = [t for t in cell.trials if t.record.extra.get("probe_client_s") and t.service.total and not t.overloaded]
    if not seen:
        return skip("no probe client ran beside this load")
    worst, detail = 0.0, "the probe client saw the same median"
    slack = _limit("probe_client_slack")
    for trial in seen:
        times = sorted(float(one) for one in trial.record.extra["probe_client_s"])
        low_rank = int(stats.binom.ppf((1 - _limit("probe_client_level")) / 2, len(times), 0.5))
        low, high = times[max(low_rank - 1, 0)], times[min(len(times) - low_rank, len(times) - 1)]
        ours = trial.service.quantile_s(0.5)
        off = max(low / ours, ours / high) - 1
        if off > worst:
            worst, detail = (
                off,
                f"{trial.name}: our median {ours * 1e3:.2f} ms, the probe's {low * 1e3:.2f}-{high * 1e3:.2f} ms",
            )
    return Outcome(worst <= slack, worst, slack, detail)


def disturbance(record: TrialRecord) -> tuple[float, str]:
    """How far the worst kind of noise is above its threshold (1 = at it), and which; 0 where nothing was recorded."""
    worst, which = 0.0, ""
    for name in ("steal_share", "foreign_cpu_share"):
        value = record.noise.get(name)
        if value is not None and value / _limit(name) > worst:
            worst, which = value / _limit(name), f"{name} {value:.3g} (limit {_limit(name):g})"
    return worst, which


def disturbed(record: TrialRecord, gotcha: GotchaPlan) -> str:
    """Why a pair with this trial should be done again, or "": the hook for ``lab.runner.run_trials``.

    Where every claim under the condition is about counts noise spoils nothing, and nothing is repeated.
    """
    worst, which = disturbance(record)
    if worst <= 1:
        return ""
    spoiled = next(gate.spoils for gate in GATES if gate.name == "G9")
    return which if claimed_families(gotcha, record.condition) & spoiled else ""


def noise(cell: Cell) -> Outcome:
    """G9.  The runner has repeated a disturbed pair already; what is noisy still fails."""
    recorded = [t for t in cell.trials if t.record.noise]
    if not recorded:
        return skip("the machine's noise was not recorded")
    worst, which, name = max((*disturbance(t.record), t.name) for t in recorded)
    return Outcome(worst <= 1, worst, 1.0, f"{name}: {which}" if which else "quiet")


GATES: tuple[Gate, ...] = (
    Gate("G1", "dispatch lag", frozenset({"time"}), "Give the generator a core of its own, or offer less.", dispatch_lag),
    Gate("G2", "offered = sent", _TIMED, "Give the load more connections, or more generator processes.", offered_is_sent),
    Gate("G3", "generator CPU", _TIMED, "Offer less, use fewer users, or more generator processes.", generator_cpu),
    Gate("G4", "jitter", frozenset({"time"}), "Close other programs, or give the generator a core of its own.", jitter),
    Gate("G5", "Little's law", _TIMED, "Samples are missing or not steady: lengthen the warm-up, look at the load's log.", littles_law),
    Gate("G6", "null target", _TIMED, "The generator may be the limit: use more generator processes.", null_target),
    Gate("G7", "server-bound", frozenset({"rate"}), "The plateau is not the server's: look at the generator and the network.", server_bound),
    Gate("G8", "probe client", frozenset({"time"}), "The generator sees other times than a bystander: offer less.", probe_client),
    Gate("G9", "noise", frozenset({"time", "inside", "rate", "cpu"}), "Something else ran on the machine: close it and run again.", noise),
)  # fmt: skip
"""Every gate there is."""


def check_gates(cell: Cell) -> tuple[GateResult, ...]:
    """All gates of one condition, in order.  Trials that failed are left out before."""
    results = []
    for gate in GATES:
        outcome = gate.check(cell) if cell.trials else skip("no finished trial")
        results.append(
            GateResult(gate.name, cell.condition.key, outcome.passed, outcome.figure, outcome.threshold, outcome.detail,
                       gate.advice if outcome.passed is False else "")
        )  # fmt: skip
    return tuple(results)


def spoiled_by(family: Family, results: Sequence[GateResult]) -> GateResult | None:
    """The first failed gate that invalidates metrics of this family."""
    spoils = {gate.name: gate.spoils for gate in GATES}
    return next((one for one in results if one.passed is False and family in spoils[one.gate]), None)
