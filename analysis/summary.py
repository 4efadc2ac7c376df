"""A gotcha in one line: does it affect the naive app, is it fixed, and how many checks came out.  For the terminal, the pages and the matrix.

A check that could not be judged (inconclusive, invalid) is *not tested*: it says nothing against the finding.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.charts.units import human
from analysis.model import ClaimVerdict, GotchaVerdict, Seen

SHOWS = ("reproduced", "smaller", "larger")
UNTOLD = ("inconclusive", "invalid")


@dataclass(frozen=True)
class Standing:
    """How the claims of a gotcha stand: ``good`` came out, ``differ`` did not, ``untested`` could not be judged."""

    good: int
    differ: int
    untested: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.good + self.differ + self.untested

    @property
    def text(self) -> str:
        """ "8 of 10 checks as predicted, 2 not tested"."""
        said = f"{self.good} of {self.total} checks as predicted"
        return (
            said
            + (f", {self.differ} differ" if self.differ else "")
            + (f", {self.untested} not tested" if self.untested else "")
        )


def standing_of(claims: Sequence[ClaimVerdict]) -> Standing:
    """The claims counted."""
    good = sum(one.verdict == "reproduced" for one in claims)
    untested = sum(one.verdict in UNTOLD for one in claims)
    return Standing(good, len(claims) - good - untested, untested)


def _lead(verdict: GotchaVerdict, kind: str) -> ClaimVerdict | None:
    """The first claim of its kind that could be judged, else the first: authors put the one that matters first."""
    own = [one for one in verdict.claims if one.kind == kind]
    return next((one for one in own if one.verdict not in UNTOLD), own[0] if own else None)


def faults_only(verdict: GotchaVerdict) -> bool:
    """Whether nothing was asked but what the fix survives (``run --faults``)."""
    return bool(verdict.claims) and all(one.kind == "hold" for one in verdict.claims)


def held(verdict: GotchaVerdict) -> str:
    """ "the fix held under every fault", or under how many of them; a fault is one condition of a run."""
    asked: dict[str, list[str]] = {}
    for claim in verdict.claims:
        for one in claim.conditions:
            asked.setdefault(one.condition, []).append(one.verdict)
    holds = sum(all(word == "reproduced" for word in words) for words in asked.values())
    return f"the fix held under {holds} of {len(asked)} faults"


def affects(verdict: GotchaVerdict) -> str:
    """ "affects naive", "does not affect naive" or "not tested"."""
    harm = _lead(verdict, "harm")
    if harm is None or harm.verdict in UNTOLD:
        return "not tested"
    return "affects naive" if harm.verdict in SHOWS else "does not affect naive"


def fixed(verdict: GotchaVerdict) -> str:
    """ "fixed", "not fixed" or "fix not tested"."""
    fix = _lead(verdict, "fix")
    if fix is None or fix.verdict in UNTOLD:
        return "fix not tested"
    return "fixed" if fix.verdict == "reproduced" else "not fixed"


def tone(verdict: GotchaVerdict) -> str:
    """The colour group: good where the harm shows and the fix holds, bad where either is refuted, open where it was not tested."""
    if faults_only(verdict):
        counted = standing_of(verdict.claims)
        return "bad" if counted.differ else "open" if counted.untested else "good"
    said = (affects(verdict), fixed(verdict))
    if "does not affect naive" in said or "not fixed" in said:
        return "bad"
    if said != ("affects naive", "fixed"):
        return "open"
    return "good" if not standing_of(verdict.claims).differ else "part"


SYMBOLS = {"good": "✓", "part": "◐", "bad": "✕", "open": "?"}


def number(value: float, unit: str) -> str:
    """A value of the line: with the unit of a time, a size or a ratio; a rate or a count has its unit in the words beside it."""
    if value == math.inf:
        return "never"
    return human(value, "" if unit in ("requests/s", "per burst", "per request") else unit)


def line(seen: Seen | None) -> str:
    """ "9.8 -> 94 requests per second"; why there is none where it may not be quoted."""
    if seen is None:
        return ""
    if seen.naive is None or seen.fixed is None:
        return f"not measured ({seen.reason})"
    return f"{number(seen.naive, seen.unit)} -> {number(seen.fixed, seen.unit)} {seen.words}"


def factor(seen: Seen | None) -> str:
    """ "9.6x (9.5 to 9.7)", greater than 1 whichever way it goes; "" where there is none or its interval includes 1."""
    if seen is None or seen.factor is None:
        return ""
    found = seen.factor
    value, low, high = found.value, found.low, found.high
    if low is not None and high is not None and low <= 1 <= high:
        return ""
    if value < 1:
        value, low, high = 1 / value, 1 / high if high else None, 1 / low if low else None
    text = f"{human(value, '')}x"
    return text + (
        f" ({human(low, '')} to {human(high, '')})" if low is not None and high is not None and low < high else ""
    )


def short_title(title: str, width: int) -> str:
    """The title for a line with its results: what stands before the colon or the bracket, since what follows is the finding itself.

    "Too many connections: pool_size is per process" becomes "Too many connections"; what is still too wide ends at a word with an ellipsis.
    """
    head = title.partition(": ")[0]
    if len(head) > width:
        head = head.partition(" (")[0]
    return textwrap.shorten(head, width, placeholder=" …")


def badge(verdict: GotchaVerdict) -> str:
    """ "Affects naive: 50 · Fixed: 1 queries for one expiry · 8 of 10 checks as predicted, 2 not tested"."""
    if faults_only(verdict):
        return f"{held(verdict).capitalize()} · {standing_of(verdict.claims).text}"
    seen, harm, mended = verdict.seen, affects(verdict), fixed(verdict)
    if seen is None or seen.naive is None or seen.fixed is None:
        return f"{harm[0].upper()}{harm[1:]} · {mended} · {standing_of(verdict.claims).text}"
    naive, after = number(seen.naive, seen.unit), number(seen.fixed, seen.unit)
    return f"{harm[0].upper()}{harm[1:]}: {naive} · {mended}: {after} {seen.words} · {standing_of(verdict.claims).text}"
