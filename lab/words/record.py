"""What a trial leaves behind, as frozen values; ``lab.store`` writes them, ``analysis`` reads them.

format_version history
    1  first
    2  server.parquet: pool_checked_out and pool_waiting; who reads an older one finds them empty.  TrialRecord: affinity
    3  server.parquet: rows tile the time (start_ns), answered and own requests, lag by time.  GeneratorSeen: what became of every
       request and connection, how long the warm-up took.  Samples: outcome bad_framing
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lab.model import TrialPlan
from lab.target.inside.rows import SERVER_COLUMNS as SERVER_COLUMNS
from lab.target.inside.rows import SERVER_ROW_BYTES as SERVER_ROW_BYTES

FORMAT_VERSION = 3
SELFTEST_VERSION = 3  # of selftest.json; its history stands in analysis.selftest


@dataclass(frozen=True)
class ProcessUse:
    """What one process tree used between the start and the end of the load.  ``cpu_ns`` counts all its threads and processes.

    ``rss_peak_bytes`` is the greatest sum over the tree that a reading saw: with ``memory_kind`` "pss" of proportional memory (a page that
    n processes share is an n-th in each; twice a second and at the end), with "rss" of resident memory, where shared pages count in each.
    """

    cpu_ns: int
    rss_peak_bytes: int
    processes: int
    threads_peak: int = 0
    memory_kind: Literal["rss", "pss"] = "rss"


@dataclass(frozen=True)
class Statement:
    """One row of pg_stat_statements: what the trial added to it."""

    query: str
    calls: int
    rows: int
    shared_blks: int
    exec_ms: float


@dataclass(frozen=True)
class PlanSeen:
    """One statement as auto_explain saw it in an explained request.  ``rows_visited`` sums rows out of the scans and rows they removed."""

    name: str
    level: float
    query: str
    rows_visited: int
    rows_returned: int
    shared_blks: int
    nodes: tuple[str, ...]
    temp_blks: int = 0


@dataclass(frozen=True)
class EventSeen:
    """An event as it happened; ``at_ns`` is CLOCK_MONOTONIC."""

    label: str
    action: str
    at_ns: int
    detail: str = ""


@dataclass(frozen=True)
class ProbeSeen:
    """A probe's outcome; ``problem`` is empty where the answer was the expected one."""

    request: str
    when: Literal["before", "after"]
    status: int
    problem: str
    body: str = ""


@dataclass(frozen=True)
class GeneratorSeen:
    """What the load child says about itself.

    ``cpu_windows`` are shares of one core per 1 s window, ``jitter_*`` the overshoot of a greenlet that sleeps 10 ms,
    ``planned`` and ``sent`` count requests, ``trace_hash`` identifies the arrival schedule.  planned = sent + never_sent, and
    ``rows`` = planned where the load plans; each is counted where it happens, not from the rows.

    Connections: ``reconnects`` had been closed by the server while they were idle, ``unsolicited`` had bytes waiting that nobody asked
    for (both seen before sending), ``resent`` requests were sent again because not one byte had left, ``connections_peak`` were open at
    once, ``connections_short`` requests had to wait because no further connection could be opened, and ``connection_problem`` says why.
    ``spread`` maps a worker's pid to its connections where the load asked for an even spread, ``spread_even`` whether it came about.

    ``in_flight_s`` is the time that requests were in flight, added up when each began and ended and not from the rows (request-seconds).
    ``jitter_samples`` counts the sleeps of ``jitter_*`` and ``jitter_late`` those that came back more than 5 ms too late.

    ``warmup_s`` is how long the warm-up really took, ``warmup_extensions`` how often it was prolonged, ``steady`` whether it ended in a
    steady state (None: the condition has no warm-up).
    """

    planned: int
    sent: int
    reconnects: int
    cpu_windows: tuple[float, ...]
    jitter_p99_s: float
    jitter_max_s: float
    trace_hash: str
    processes: int = 1
    rows: int | None = None
    never_sent: int | None = None
    unsolicited: int = 0
    resent: int = 0
    connections_peak: int = 0
    connections_short: int = 0
    connection_problem: str = ""
    spread: Mapping[str, int] = field(default_factory=dict)
    spread_even: bool | None = None
    in_flight_s: float | None = None
    jitter_samples: int | None = None
    jitter_late: int = 0
    warmup_s: float | None = None
    warmup_extensions: int = 0
    steady: bool | None = None


@dataclass(frozen=True)
class TrialRecord:
    """One trial as measured.  A failed or skipped one is a result too: ``status`` and ``reason`` say what happened.

    ``activity`` holds the peaks of pg_stat_activity by state while the load ran, ``activity_series`` rows of
    (monotonic ns, total, active, idle, idle in transaction); ``tables`` rows read per table once the server had stopped;
    ``redis_commands`` calls per command; ``cpu_series`` rows of
    (monotonic ns, CPU ns so far of each tree in the order of ``processes``); ``observed`` counts that the user class kept;
    ``services`` what a service itself counted during the load, by its name;
    ``affinity`` the cores of ``generator`` and ``target``, empty where the scheduler shared them out.
    """

    gotcha: str
    condition: str
    pair: int
    variant: str
    seed: int
    status: Literal["ok", "failed", "skipped", "interrupted"]
    reason: str = ""
    started_at: str = ""
    load_started_ns: int = 0
    load_ended_ns: int = 0
    request_names: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    server_pids: tuple[int, ...] = ()
    loop: str = ""
    http: str = ""
    observed: Mapping[str, float] = field(default_factory=dict)
    final_reads: Mapping[str, float] = field(default_factory=dict)
    probes: tuple[ProbeSeen, ...] = ()
    statements: tuple[Statement, ...] = ()
    tables: Mapping[str, int] = field(default_factory=dict)
    activity: Mapping[str, int] = field(default_factory=dict)
    activity_series: tuple[tuple[int, ...], ...] = ()
    sessions_opened: int = 0
    redis_commands: Mapping[str, int] = field(default_factory=dict)
    redis_memory_bytes: int = 0
    processes: Mapping[str, ProcessUse] = field(default_factory=dict)
    cpu_series: tuple[tuple[int, ...], ...] = ()
    plans: tuple[PlanSeen, ...] = ()
    events: tuple[EventSeen, ...] = ()
    generator: GeneratorSeen | None = None
    noise: Mapping[str, float] = field(default_factory=dict)
    affinity: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    services: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class Environment:
    """The machine and the software of a run.  ``siblings`` are the usable CPUs that share a physical core, where some do."""

    python: str
    platform: str
    cpu_model: str
    cores: int
    memory_bytes: int
    affinity: Mapping[str, tuple[int, ...]]
    packages: Mapping[str, str]
    services: Mapping[str, str]
    limits: Mapping[str, str]
    noise: Mapping[str, float]
    git_commit: str = ""
    siblings: tuple[tuple[int, ...], ...] = ()
    format_version: int = FORMAT_VERSION

    @property
    def machine(self) -> tuple[object, ...]:
        """What makes times comparable at all."""
        return self.cpu_model, self.cores, self.platform

    @property
    def surroundings(self) -> tuple[object, ...]:
        """The machine and every version on it; the commit of the lab and the noise of the moment are left out."""
        return (*self.machine, self.python, dict(self.packages), dict(self.services))


@dataclass(frozen=True)
class Added:
    """added.json: trials that a quick run added to its plan after the first look (``SecondLook``), and for the reader why."""

    trials: tuple[TrialPlan, ...]
    reasons: tuple[str, ...]
    format_version: int = 1
