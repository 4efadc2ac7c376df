"""Every metric by name, as scenarios write it: ``naive.sql_calls("load")``, ``correct.latency_p50_s / naive.latency_p50_s``.

An ``Arm`` is a variant, its attributes are the metrics; what they are computed from stands in ``analysis.metrics``, and a test holds both to
each other.  A name that is no metric, an argument that a metric does not take and one that it cannot read fail when the scenario is imported.
The notation is a string, ``naive.sql_calls[load]``: that is what a plan stores, a report prints and ``MetricExpression.parse`` reads.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass


def _is_number(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


@dataclass(frozen=True)
class Argument:
    """What may stand in a metric's brackets: in words, and the test of a text."""

    words: str
    fits: Callable[[str], bool] = bool

    def __str__(self) -> str:
        return self.words


def _one_of(*texts: str) -> Argument:
    return Argument(f"{', '.join(texts[:-1])} or {texts[-1]}", lambda text: text in texts)


REQUEST = Argument("request name")
QUERY = Argument("name of a query")
EXPLAINED = Argument("name of an explained request")
FINAL = Argument("name of a final read")
OBSERVED = Argument("name the user class gave")
READING = Argument("service.name", lambda text: "." in text.strip("."))
COMMAND = Argument("command")
TABLE = Argument("table")
STATE = Argument("state")
LEVEL = Argument("level", lambda text: text.removeprefix("-").isdecimal())
STATUS = Argument("status code", lambda text: text.isdecimal() and 100 <= int(text) <= 599)
LIMIT = Argument("limit in seconds", _is_number)
TREE = _one_of("server", "postgres", "redis", "celery")
FITTED = _one_of("latency", "plan_rows_visited", "plan_blks")


class Notation(str):
    """A metric of a variant, or the ratio of two, as it is written: ``naive.rows_read[orders]``."""

    def __truediv__(self, below: "Notation") -> "Notation":
        """The ratio of two metrics.  Raises ValueError for the ratio of a ratio."""
        if " / " in self or " / " in below:
            raise ValueError(f"{self} / {below}: a ratio has two metrics, not three")
        return Notation(f"{self} / {below}")


class Named(Notation):
    """A metric of a variant before its argument, if it takes one, is given."""

    check: Callable[[str], str]

    def __new__(cls, text: str, check: Callable[[str], str]) -> "Named":
        """The text, and what an argument has to pass."""
        named = super().__new__(cls, text)
        named.check = check
        return named

    def __call__(self, argument: str | float) -> Notation:
        """With the argument in its brackets.  Raises ValueError where the metric takes none, or none like this."""
        return Notation(f"{self}[{self.check(str(argument))}]")


class Quantity:
    """A metric's unit ("" for a count), and the argument that it takes, may take, or (None) does not take."""

    def __init__(self, unit: str = "", argument: Argument | None = None, *, needed: bool = False) -> None:
        self.name = ""
        self.unit, self.argument, self.needed = unit, argument, needed

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, arm: "Arm", owner: type) -> Named:
        return Named(f"{arm.variant}.{self.name}" if arm.variant else self.name, self.checked)

    def checked(self, argument: str) -> str:
        """The argument.  Raises ValueError where the metric takes none, or none like this."""
        if self.argument is None:
            raise ValueError(f"{self.name} takes no argument")
        if not self.argument.fits(argument) or "]" in argument or " / " in argument:  # it could not be read back
            raise ValueError(f"{self.name}: {argument!r} is not: {self.argument}")
        return argument


def _per_answer(argument: Argument, *, needed: bool = False) -> tuple[Quantity, Quantity, Quantity]:
    """A count, the same divided by the answers of any status, and by the bursts."""
    return (
        Quantity("", argument, needed=needed),
        Quantity("per request", argument, needed=needed),
        Quantity("per burst", argument, needed=needed),
    )


@dataclass(frozen=True)
class Arm:
    """A variant, whose attributes are its metrics; "" for what a chart draws of every variant."""

    variant: str

    latency_p50_s = Quantity("s", REQUEST)
    latency_p90_s = Quantity("s", REQUEST)
    latency_p95_s = Quantity("s", REQUEST)
    latency_p99_s = Quantity("s", REQUEST)
    latency_p999_s = Quantity("s", REQUEST)
    latency_mean_s = Quantity("s", REQUEST)
    latency_max_s = Quantity("s", REQUEST)
    service_p50_s = Quantity("s", REQUEST)
    service_p90_s = Quantity("s", REQUEST)
    service_p95_s = Quantity("s", REQUEST)
    service_p99_s = Quantity("s", REQUEST)
    service_p999_s = Quantity("s", REQUEST)
    service_mean_s = Quantity("s", REQUEST)
    service_max_s = Quantity("s", REQUEST)
    first_byte_p50_s = Quantity("s", REQUEST)
    first_byte_p99_s = Quantity("s", REQUEST)
    error_latency_p50_s = Quantity("s", REQUEST)
    error_latency_p99_s = Quantity("s", REQUEST)
    client_lag_p50_s = Quantity("s", REQUEST)
    client_lag_p99_s = Quantity("s", REQUEST)
    connection_wait_p50_s = Quantity("s", REQUEST)
    connection_wait_p99_s = Quantity("s", REQUEST)
    latency_at_level_s = Quantity("s", LEVEL, needed=True)

    throughput_rps = Quantity("requests/s", REQUEST)
    sent_rps = Quantity("requests/s", REQUEST)
    offered_rps = Quantity("requests/s", REQUEST)
    requests_sent = Quantity("", REQUEST)
    requests_ok = Quantity("", REQUEST)
    requests_censored = Quantity("", REQUEST)
    ok_per_burst = Quantity("per burst", REQUEST)
    error_share = Quantity("share", REQUEST)
    status_count = Quantity("", STATUS, needed=True)
    responses_5xx = Quantity("", REQUEST)
    response_mean_bytes = Quantity("B", REQUEST)
    requests_per_pid_min = Quantity("", REQUEST)
    requests_per_pid_max = Quantity("", REQUEST)
    ok_per_pid_min = Quantity("", REQUEST)
    ok_per_pid_max = Quantity("", REQUEST)
    pids_seen = Quantity("", REQUEST)
    max_in_flight = Quantity("", REQUEST)
    makespan_s = Quantity("s")

    loop_lag_max_s = Quantity("s")
    loop_lag_p50_s = Quantity("s")
    loop_lag_p99_s = Quantity("s")
    threads_borrowed_max = Quantity()
    server_in_flight_max = Quantity()
    pool_checked_out_max = Quantity()
    pool_waiting_max = Quantity()
    gc_pause_s = Quantity("s")
    cpu_s_per_request = Quantity("s/request")
    cpu_server_s_per_request = Quantity("s/request")
    cpu_postgres_s_per_request = Quantity("s/request")
    cpu_redis_s_per_request = Quantity("s/request")
    cpu_celery_s_per_request = Quantity("s/request")
    cpu_marginal_s_per_request = Quantity("s/request", TREE)
    cpu_idle_cores = Quantity("cores", TREE)
    rss_peak_bytes = Quantity("B")
    threads_peak = Quantity()

    sql_calls, sql_calls_per_request, sql_calls_per_burst = _per_answer(QUERY)
    sql_rows, sql_rows_per_request, sql_rows_per_burst = _per_answer(QUERY)
    sql_blks, sql_blks_per_request, sql_blks_per_burst = _per_answer(QUERY)
    redis_calls, redis_calls_per_request, redis_calls_per_burst = _per_answer(COMMAND)
    rows_read, rows_read_per_request, rows_read_per_burst = _per_answer(TABLE)
    plan_rows_visited = Quantity("", EXPLAINED)
    plan_rows_returned = Quantity("", EXPLAINED)
    plan_blks = Quantity("", EXPLAINED)
    plan_temp_blks = Quantity("", EXPLAINED)
    sessions_opened = Quantity()
    connections_peak = Quantity("", STATE)
    redis_memory_bytes = Quantity("B")
    service_reading, service_reading_per_request, service_reading_per_burst = _per_answer(READING, needed=True)
    final, final_per_request, final_per_burst = _per_answer(FINAL, needed=True)
    observed, observed_per_request, observed_per_burst = _per_answer(OBSERVED, needed=True)
    events_count = Quantity()

    fit_slope = Quantity("", FITTED, needed=True)
    fit_intercept = Quantity("", FITTED, needed=True)
    fit_r2 = Quantity("", FITTED, needed=True)
    fit_knee_ratio = Quantity("x", FITTED, needed=True)
    fit_flat_ratio = Quantity("x", FITTED, needed=True)
    capacity_rps = Quantity("requests/s")
    time_to_breach_s = Quantity("s", LIMIT)
    recovery_s = Quantity("s", LIMIT)
    hold_answer_s = Quantity("s")
    hold_recovery_s = Quantity("s")
    hold_signs = Quantity()


QUANTITIES: dict[str, Quantity] = {name: one for name, one in vars(Arm).items() if isinstance(one, Quantity)}
"""Every metric there is, by name."""

naive = Arm("naive")
correct = Arm("correct")
each = Arm("")
"""What a chart draws: of every variant."""

OWN_UNITS = (("_s", "s"), ("_rps", "requests/s"), ("_bytes", "B"), ("_share", "share"), ("_ratio", "x"))
"""What a scenario itself reads, counts or varies says its unit by the end of its name: ``final[idle_s]``."""


def unit_of(metric: str, argument: str = "") -> str:
    """The unit of a metric; "" for a count.  Raises KeyError for a name that is no metric."""
    quantity = QUANTITIES[metric]
    return quantity.unit or (own_unit(argument) if quantity.argument in (FINAL, OBSERVED) else "")


def own_unit(name: str) -> str:
    """The unit that the name of a scenario's own number or parameter ends in: ``idle_s`` is in seconds; "" for a count."""
    return next((unit for end, unit in OWN_UNITS if name.endswith(end)), "")


def parse_metric(text: str) -> tuple[str, str]:
    """``name[argument]`` as name and argument, of a metric without its variant."""
    name, _, rest = text.strip().partition("[")
    return name, rest.removesuffix("]")
