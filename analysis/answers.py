"""Sentences with numbers in them: a gotcha's answer and the titles of charts quote claims by id."""

from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from analysis.model import ClaimVerdict
from analysis.verdicts import short

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
        value = getattr(at.measured, field or "value", None)
        return _Words(NOT_MEASURED) if value is None else _Number(value)


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
