"""Every number that a gate compares with, and where it comes from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Threshold:
    """A limit and where it comes from."""

    value: float
    unit: str
    source: str


THRESHOLDS = {
    "lag_p99_s": Threshold(0.001, "s", "docs/method.md G1: a timerfd dispatcher reaches 0.19 ms on an idle core; 1 ms is five times that"),
    "lag_share": Threshold(0.10, "", "docs/method.md G1: a lag below a tenth of the same quantile of the smaller time cannot change who wins"),
    "lag_floor_s": Threshold(0.00015, "s", "docs/method.md section 1: twice the 0.08 ms that a timerfd is late at the median; both arms have it"),
    "unsent_share": Threshold(0.02, "", "docs/method.md G2; wrk2 and k6 report a rate not held within 2 %"),
    "connections_short": Threshold(0.0, "requests", "a request that waits for a connection of ours waits in our queue, not in the target's"),
    "generator_cpu": Threshold(0.80, "", "docs/method.md G3: queueing at a server that is 80 % busy multiplies its time by five (M/M/1)"),
    "jitter_p99_s": Threshold(0.005, "s", "docs/method.md G4; Treadmill (ISCA 2016) section 3: client-side queueing biases the tail"),
    "jitter_max_s": Threshold(0.100, "s", "docs/method.md G4: a pause of 100 ms is a pause of ours in any p99"),
    "tail_chance": Threshold(0.025, "", "one side of 95 %: so many late ones by chance where 1 % may be late, and too few were seen for a p99"),
    "littles_law": Threshold(0.05, "", "docs/method.md G5; Lancet (USENIX ATC 2019) checks the same identity"),
    "ceiling_share": Threshold(0.50, "", "docs/method.md G6"),
    "plateau_growth": Threshold(0.10, "", "docs/method.md G7: 1.5 times the users for less than 10 % more"),
    "saturated": Threshold(0.80, "", "docs/method.md G7: a resource that is 80 % busy is what a plateau waits for"),
    "blocked_loop_s": Threshold(0.010, "s", "half of the time (p50 of the lag, by time) a timer of 5 ms came another 10 ms late"),
    "thread_tokens": Threshold(40, "threads", "anyio's default limiter: anyio._backends._asyncio, CapacityLimiter(40)"),
    "probe_client_level": Threshold(0.99, "", "docs/method.md G8: order-statistic interval of the probe client's quantile"),
    "probe_client_slack": Threshold(0.10, "", "docs/method.md G8; PASTA: Poisson probes see time averages (Wolff 1982)"),
    "probe_client_floor_s": Threshold(0.0005, "s", "a client that idles between requests wakes later: 0.72 against 0.86 to 1.87 ms were seen"),
    "steal_share": Threshold(0.05, "", "docs/method.md G9: as foreign_cpu_share, a tenth of one of two cores"),
    "foreign_cpu_share": Threshold(0.10, "", "docs/method.md G9: a tenth of a core taken by others is as large as the equivalence band"),
    "cores_missing_share": Threshold(0.15, "", "docs/method.md G9: two cores that do the work of 1.7; claims about parallel computing allow a third"),
    "rows_off": Threshold(0.0, "rows", "docs/method.md section 6: one row lost fails a gate"),
}  # fmt: skip


def limit(name: str) -> float:
    """The value of a threshold."""
    return THRESHOLDS[name].value
