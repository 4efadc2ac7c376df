"""The words of the pages: verdicts, kinds of claims, gates and loads, each explained to somebody who does not know the lab."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from analysis.model import VerdictName
from lab.model import Condition


@dataclass(frozen=True)
class VerdictWord:
    """A verdict as printed: its word, a symbol that does without colour, what it means, and the colour group of its badge."""

    label: str
    symbol: str
    meaning: str
    tone: str


VERDICTS: Mapping[VerdictName, VerdictWord] = MappingProxyType({
    "reproduced": VerdictWord("Reproduced", "✓", "Every claim came out as predicted, within its tolerance.", "good"),
    "smaller": VerdictWord("Smaller", "◐", "It is there, but less of it than predicted.", "part"),
    "larger": VerdictWord("Larger", "◑", "It is there, and more of it than predicted; for a fix or a cost, more than promised.", "part"),
    "symptom_only": VerdictWord("Symptom only", "◔", "The harm was measured, the mechanism said to cause it was not.", "part"),
    "law_broken": VerdictWord("Law broken", "≠", "It was predicted of every trial, and holds in some of them only.", "bad"),
    "not_reproduced": VerdictWord("Not reproduced", "✕", "The effect is absent: the measured interval lies where there is no effect.", "bad"),
    "reversed": VerdictWord("Reversed", "⇄", "The effect goes the other way.", "bad"),
    "inconclusive": VerdictWord("Inconclusive", "?", "The interval is too wide, or data is missing: this run cannot tell. More pairs may.", "open"),
    "invalid": VerdictWord("Invalid", "⊘", "A check of the measurement itself failed: the number is not believed.", "open"),
})  # fmt: skip

KINDS: Mapping[str, tuple[str, str]] = MappingProxyType({
    "harm": ("Harm", "The naive variant bites, this much."),
    "mechanism": ("Mechanism", "The internal signal that explains it moved too."),
    "fix": ("Fix", "The correct variant does not have the problem."),
    "tax": ("Tax", "What the fix costs."),
})  # fmt: skip

SURVIVES = ("Survives", "What the fix holds while a service or a process fails.")

GATES: Mapping[str, str] = MappingProxyType({
    "G1": "Requests left when they were planned", "G2": "What was offered was sent", "G3": "The generator had CPU to spare",
    "G4": "The generator was not paused", "G5": "Little's law holds", "G6": "Far below the generator's own ceiling",
    "G7": "A plateau is the server's, not ours", "G8": "An independent client saw the same", "G9": "The machine was quiet",
    "G10": "Every row was counted by somebody else too", "G11": "The target was steady when the window began",
    "G12": "Workers were met evenly",
})  # fmt: skip

TOPICS: Mapping[str, str] = MappingProxyType({
    "gil": "The GIL", "api_design": "API design", "api_contracts": "API contracts", "event_loop": "Event loop", "auth": "Authentication",
})  # fmt: skip

LIMITATIONS = (
    "Everything runs on one machine over loopback: there is no network delay, no TLS and no proxy unless a scenario adds one.",
    "The load generator, the target, PostgreSQL and Redis share its cores. Ratios, counts and CPU per request stand; absolute "
    "capacities are this machine's.",
    "An interval says how far another run on this machine may differ, not another machine, kernel or library version.",
    "A quick run has few pairs and is marked indicative. Only a full run decides close calls.",
    "Targets are small on purpose. A real application has other bottlenecks, and may hide or worsen the effect.",
    "A prediction holds under the conditions shown. The verdict says nothing about loads that were not measured.",
)


def topic_words(topic: str) -> str:
    """A topic's folder name as a heading."""
    return TOPICS.get(topic, topic.replace("_", " ").capitalize())


def load_words(condition: Condition) -> str:
    """The load of a condition in words."""
    return condition.load.words(condition.duration_s)


def server_words(condition: Condition) -> str:
    """The server of a condition in words."""
    server = condition.server
    count = "1 worker" if server.workers == 1 else f"{server.workers} workers"
    return f"{server.kind}, {count}, {server.loop}, {server.http}"
