"""What a scenario says of its finding and of what its remedies survive.  Part of the words of ``lab.model``, which offers them too."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lab.words.surroundings import CeleryWorker, Server, Upstream

OPEN_TRANSACTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
)
"""Counts transactions that nobody works in.  Read when no request is under way, an open one was forgotten."""


@dataclass(frozen=True)
class BeforeAfter:
    """The finding in one line: the same number of the naive and of the fixed app under one condition.

    ``metric`` has no variant (``each.throughput_rps``, ``each.sql_calls("load") / each.sql_calls``); ``words`` name it with its unit as one
    says it ("requests per second", "queries for one expiry"); ``situation`` is what happens, in a sentence without formula letters.
    ``condition`` is a label, ``fixed`` the variant that is shown beside naive.
    """

    metric: str
    words: str
    condition: str
    situation: str
    fixed: str = "correct"


@dataclass(frozen=True)
class Survival:
    """What a remedy must hold while a service or a process of it fails; ``lab.catalog.faults`` makes the conditions and claims of it.

    ``user`` works steadily (``users`` of them, closed loop) and counts what it did.  ``answer_within_s`` is the longest that any request may
    take to be answered, whatever the answer; ``recover_within_s`` how long after the fault's end a request must succeed again.  ``ledger``
    maps a word ("lost", "doubled", "leaked") to a metric of each variant (``each.final("lost")``) that must be 0 at the end.
    ``variants`` are the remedies; the naive app runs beside them for comparison.  ``limits`` maps "variant: fault" to the sentence that
    names a hole which the page names too.  ``also`` adds faults that no service has: of an app with its own processes (``pool``), of jobs
    that can never succeed (``poison``: the user class sends some where ``params["fault"]`` is "poison job").  ``without`` names faults that
    cannot happen here, or ("variant: fault") not to that variant.  ``servers`` are those of variants whose server is the lesson.
    """

    user: str
    answer_within_s: float
    recover_within_s: float
    ledger: Mapping[str, str] = field(default_factory=dict)
    variants: tuple[str, ...] = ("correct",)
    limits: Mapping[str, str] = field(default_factory=dict)
    users: int = 4
    workers: int = 2
    env: Mapping[str, str] = field(default_factory=dict)
    setup_sql: str = ""
    upstream: Upstream | None = None
    celery: CeleryWorker | None = None
    also: tuple[Literal["pool", "poison"], ...] = ()
    without: tuple[str, ...] = ()
    servers: Mapping[str, Server] = field(default_factory=dict)
