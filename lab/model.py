"""The words of the lab as frozen values; standard library only, no I/O.

A scenario file writes ``Scenario`` and the values in it.  ``lab.catalog.describe`` turns that into a ``GotchaPlan``, in which
every prediction is a number already: that is what is stored, run and judged.  ``docs/glossary.md`` has the words in prose.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lab.words.conditions import Condition as Condition
from lab.words.conditions import Explained as Explained
from lab.words.conditions import FinalRead as FinalRead
from lab.words.conditions import Probe as Probe
from lab.words.conditions import Scalar as Scalar
from lab.words.loads import Burst as Burst
from lab.words.loads import ClosedLoad as ClosedLoad
from lab.words.loads import Journey as Journey
from lab.words.loads import Load as Load
from lab.words.loads import OpenLoad as OpenLoad
from lab.words.loads import StagedLoad as StagedLoad
from lab.words.looks import SecondLook as SecondLook
from lab.words.metrics import Notation
from lab.words.references import MetricExpression as MetricExpression
from lab.words.references import MetricRef as MetricRef
from lab.words.shapes import Stage as Stage
from lab.words.surroundings import App as App
from lab.words.surroundings import CeleryWorker as CeleryWorker
from lab.words.surroundings import Event as Event
from lab.words.surroundings import Proxy as Proxy
from lab.words.surroundings import Server as Server
from lab.words.surroundings import Upstream as Upstream
from lab.words.survival import OPEN_TRANSACTIONS as OPEN_TRANSACTIONS
from lab.words.survival import BeforeAfter as BeforeAfter
from lab.words.survival import Survival as Survival

# ---------------------------------------------------------------- claims

Kind: TypeAlias = Literal["harm", "mechanism", "fix", "tax", "hold"]
Relation: TypeAlias = Literal["about", "at_most", "at_least"]
CLAIM_KINDS: tuple[Kind, ...] = ("harm", "mechanism", "fix", "tax", "hold")


@dataclass(frozen=True)
class Claim:
    """One sentence that a measurement can refute.

    ``metric`` is written as a value: ``naive.sql_calls("load")`` (``lab.words.metrics``).
    ``predict`` gives the prediction for a condition, or None where the claim does not speak of it; ``formula`` is the same in
    print and ``source`` says where it comes from.  ``tolerance`` is a share of the prediction; 0 asks for equality in every
    trial.  ``null`` is what the metric reads when there is no effect (1 for a ratio); with it a measurement between the two is
    called smaller and one beyond it reversed.  ``headline`` is the label of the condition that the answer quotes.
    """

    id: str
    kind: Kind
    statement: str
    metric: Notation
    predict: Callable[[Condition], float | None]
    formula: str
    source: str
    relation: Relation = "about"
    tolerance: float = 0.10
    null: float | None = None
    headline: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart by the name of its kind (``analysis.charts.KINDS``).  ``title`` states the finding and may quote claims like ``answer``.

    ``metric`` has no variant (``each.latency_p99_s``): every variant is drawn; a timeline may name another quantity.
    ``x`` is a condition parameter, or ``level`` for a sweep inside a trial.
    ``conditions`` limits it to these labels; ``theory`` names the claims whose predictions are drawn beside the measurement.
    """

    kind: str
    metric: str
    title: str
    x: str = ""
    x_label: str = ""
    y_label: str = ""
    conditions: tuple[str, ...] = ()
    theory: tuple[str, ...] = ()
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Scenario:
    """How a target is exercised and what is claimed.

    ``constants`` repeats the target's own module constants that the theory uses; a test holds both files to it.
    ``queries`` names SQL patterns (LIKE) that metrics such as ``sql_calls[load]`` count in pg_stat_statements.
    ``answer`` is one sentence in which ``{claim_id}`` is the measured and ``{claim_id.predicted}`` the predicted value at the headline
    condition, with Python's format specifications.  ``labels`` says in two to five words what each variant is, for charts and tables;
    ``symptoms`` are the words and full error texts that people search for.
    """

    title: str
    claim: str
    parts: tuple[int, ...]
    catalogue_ids: tuple[str, ...]
    conditions: tuple[Condition, ...]
    claims: tuple[Claim, ...]
    charts: tuple[Chart, ...]
    probes: tuple[Probe, ...]
    answer: str
    services: tuple[str, ...] = ()
    constants: Mapping[str, Scalar] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)
    final_reads: tuple[FinalRead, ...] = ()
    explained: tuple[Explained, ...] = ()
    contract_differs: str = ""
    disagrees_with_source: str = ""
    quick_pairs: int = 3
    full_pairs: int = 8
    labels: Mapping[str, str] = field(default_factory=dict)
    symptoms: tuple[str, ...] = ()
    before_after: BeforeAfter | None = None
    survival: Survival | None = None


# ---------------------------------------------------------------- the registered plan


@dataclass(frozen=True)
class ClaimPlan:
    """A claim with its predictions as numbers by condition key: registered before any load."""

    id: str
    kind: Kind
    statement: str
    metric: str
    formula: str
    source: str
    relation: Relation
    tolerance: float
    null: float | None
    headline: str
    predictions: Mapping[str, float]


@dataclass(frozen=True)
class GotchaPlan:
    """A gotcha as everything below the scenarios knows it.  ``slug`` is ``topic/gotcha``; ``variants`` begins with naive, correct.

    ``apps`` holds the variants that are no files of ``targets/``: with them a plan may be about anybody's application.
    """

    slug: str
    title: str
    claim: str
    parts: tuple[int, ...]
    catalogue_ids: tuple[str, ...]
    variants: tuple[str, ...]
    services: tuple[str, ...]
    conditions: tuple[Condition, ...]
    claims: tuple[ClaimPlan, ...]
    charts: tuple[Chart, ...]
    probes: tuple[Probe, ...]
    answer: str
    constants: Mapping[str, Scalar]
    queries: Mapping[str, str]
    final_reads: tuple[FinalRead, ...]
    explained: tuple[Explained, ...]
    contract_differs: str
    disagrees_with_source: str
    quick_pairs: int
    full_pairs: int
    content_hash: str
    labels: Mapping[str, str] = field(default_factory=dict)
    symptoms: tuple[str, ...] = ()
    before_after: BeforeAfter | None = None
    survival: Survival | None = None
    apps: Mapping[str, App] = field(default_factory=dict)

    @property
    def topic(self) -> str:
        """The folder above the gotcha's."""
        return self.slug.split("/")[0]

    @property
    def name(self) -> str:
        """The gotcha's own snake_case name."""
        return self.slug.split("/")[1]

    def condition(self, key: str) -> Condition:
        """The condition of that key.  Raises KeyError."""
        for condition in self.conditions:
            if condition.key == key:
                return condition
        raise KeyError(key)

    def label_of(self, variant: str) -> str:
        """What a variant is, in two to five words; its file's name where the scenario says nothing."""
        return self.labels.get(variant, variant)

    def services_of(self, condition: Condition) -> tuple[str, ...]:
        """What runs beside the target under a condition."""
        return (*self.services, *(one for one in condition.services if one not in self.services))

    def variants_of(self, condition: Condition) -> tuple[str, ...]:
        """The arms that run under a condition."""
        return condition.variants or self.variants


@dataclass(frozen=True)
class TrialPlan:
    """One trial to do: a variant under a condition.  Both arms of a pair have the same ``seed``."""

    gotcha: str
    condition: str
    pair: int
    variant: str
    seed: int


@dataclass(frozen=True)
class RunPlan:
    """One invocation: what will be run, in which order, predicted in advance.  ``second_look`` says whether and how pairs may be added.

    format_version history: 1 first; 2 a condition names its observers (``count_matches`` was the only one);
    3 a variant may have its own server, not only an event loop.
    """

    run: str
    mode: Literal["quick", "full", "faults"]
    seed: int
    created_at: str
    gotchas: tuple[GotchaPlan, ...]
    trials: tuple[TrialPlan, ...]
    pairs: int
    second_look: SecondLook | None = None
    format_version: int = 3

    def gotcha(self, slug: str) -> GotchaPlan:
        """The plan of one gotcha.  Raises KeyError."""
        for gotcha in self.gotchas:
            if gotcha.slug == slug:
                return gotcha
        raise KeyError(slug)


# ---------------------------------------------------------------- samples

OUTCOMES = ("ok", "http_error", "timeout", "reset", "refused", "censored", "bad_framing")
"""What became of a request; the code in a sample is the index.  ``ok`` is a status that the request expects (2xx unless it says otherwise),
``http_error`` any other answer, ``bad_framing`` an answer that is not HTTP/1.1 as RFC 9112 has it."""

SAMPLE_COLUMNS = (
    "planned_ns", "dispatched_ns", "sent_ns", "first_byte_ns", "done_ns",
    "status", "bytes", "name_id", "level", "pid", "outcome", "reused",
)  # fmt: skip
"""One row a request.  Times are CLOCK_MONOTONIC; 0 where it did not happen.  ``level`` is the sweep's position (int, -1 for none),
``reused`` is 0 for the first request on a connection, ``name_id`` an index into the trial's ``request_names``."""
