"""Sentences with numbers in them: a gotcha's answer and the titles of charts quote claims by id.

A number that is invalid, was not measured, is "never" or belongs to another condition than the sentence means is not quoted: the whole
sentence gives way to one without it.
"""

import math
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from analysis.model import ClaimVerdict, Estimate
from analysis.verdicts import short
from lab.model import GotchaPlan

NOT_MEASURED = "not measured"
FIELDS = ("predicted", "low", "high", "pairs", "unit", "verdict")
"""What may follow a claim's id and a dot; the id alone is the measured value at the headline condition."""


class _Number(float):
    """A number that formats itself in four digits without a specification and as a whole number where one is asked for."""

    def __format__(self, spec: str) -> str:
        if not spec:
            return short(self)
        if spec[-1] in "dnxX":
            return format(round(self), spec)
        return format(float(self), spec)


class _Words(str):
    """Text that ignores a number's format specification."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return str(self)


class _Claims(Formatter):
    def __init__(self, claims: Sequence[ClaimVerdict]) -> None:
        self._claims = {claim.id: claim for claim in claims}

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The value of ``id`` or ``id.field``."""
        name, _, field = field_name.partition(".")
        return self._value(name, field), name

    def _value(self, name: str, field: str) -> _Number | _Words:
        claim = self._claims.get(name)
        if claim is None or (field and field not in FIELDS):
            return _Words(NOT_MEASURED)
        if field == "unit" or field == "verdict":
            return _Words(getattr(claim, field).replace("_", " "))
        at = claim.at_headline
        if field in ("predicted", "pairs"):
            return _Number(getattr(at, field))
        value = _figure(claim, field)
        return _Words(NOT_MEASURED) if value is None else _Number(value)


def _ends(measured: Estimate) -> Mapping[str, float | None]:
    """The ends of the interval; of what was seen where there is none (a law)."""
    if measured.low is None:
        return {"low": measured.lowest, "high": measured.highest}
    return {"low": measured.low, "high": measured.high}


def _figure(claim: ClaimVerdict, field: str) -> float | None:
    """The measured number that a sentence may quote, or None."""
    measured = claim.at_headline.quotable
    if measured is None or claim.stands_in:
        return None
    value = _ends(measured)[field] if field else measured.value
    return value if value is not None and math.isfinite(value) else None


def _needs_figure(field: str) -> bool:
    return field in ("", "low", "high")


def render_template(template: str, claims: Sequence[ClaimVerdict]) -> str:
    """``template`` with ``{claim_id}`` as the measured, ``{claim_id.predicted}`` as the predicted value, ``{claim_id:.1f}`` formatted.

    What was not measured reads "not measured"; a template with broken braces comes back as it is.
    """
    try:
        return _Claims(claims).vformat(template, (), {})
    except (ValueError, IndexError):
        return template


def quoted(template: str) -> list[tuple[str, str]]:
    """The (claim id, field) pairs that a template quotes.  Raises ValueError for broken braces or an unknown field."""
    names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    pairs = [(name.partition(".")[0], name.partition(".")[2]) for name in names]
    for name, field in pairs:
        if not name or (field and field not in FIELDS):
            raise ValueError(
                f"{{{name}.{field}}}: write {{claim_id}} or {{claim_id.field}} with one of {', '.join(FIELDS)}"
            )
    return pairs


def unquotable(template: str, claims: Sequence[ClaimVerdict]) -> list[str]:
    """The ids of the claims whose measured number a template needs and may not quote.  Raises ValueError for a broken template."""
    by_id = {claim.id: claim for claim in claims}
    return [
        name for name, field in quoted(template)
        if name not in by_id or (_needs_figure(field) and _figure(by_id[name], field) is None)
    ]  # fmt: skip


def sentence(template: str, claims: Sequence[ClaimVerdict]) -> str:
    """The template with its numbers, or "" where it needs one that may not be quoted."""
    try:
        return "" if unquotable(template, claims) else render_template(template, claims)
    except ValueError:  # broken braces: the text as it is, as ever
        return template


def answer_of(plan: GotchaPlan, claims: Sequence[ClaimVerdict]) -> str:
    """A gotcha's answer; where a number that it needs may not be quoted, which claim that is and why."""
    found = sentence(plan.answer, claims)
    if found or not plan.answer:
        return found
    missing = unquotable(plan.answer, claims)[0]
    claim = next((one for one in claims if one.id == missing), None)
    if claims and all(one.kind == "hold" for one in claims):
        return "Only what the fix survives was tested; run it without --faults for the finding itself."
    if claim is None:
        return "This run has no answer: what its sentence quotes could not be had here."
    if claim.stands_in:
        return f"This run has no answer: the condition that says whether {claim.statement} was not run."
    return f"This run has no answer to whether {claim.statement}: {claim.at_headline.reason.rstrip('.')}."
