"""References to metrics, as claims write them.  Part of the words of ``lab.model``, which offers them too."""

import re
from dataclasses import dataclass

_REF = re.compile(r"(?P<variant>[a-z][a-z0-9_]*)\.(?P<metric>[a-z][a-z0-9_]*)(?:\[(?P<arg>[^\]]+)\])?")


@dataclass(frozen=True)
class MetricRef:
    """``variant.metric[argument]``, for example ``naive.sql_calls[load]``."""

    variant: str
    metric: str
    arg: str = ""

    @classmethod
    def parse(cls, text: str) -> "MetricRef":
        """Read a reference.  Raises ValueError naming the text."""
        match = _REF.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"metric {text!r}: expected variant.metric or variant.metric[argument]")
        return cls(match["variant"], match["metric"], match["arg"] or "")

    def __str__(self) -> str:
        return f"{self.variant}.{self.metric}" + (f"[{self.arg}]" if self.arg else "")


@dataclass(frozen=True)
class MetricExpression:
    """One metric, or the ratio of two (``naive.latency_p50_s / correct.latency_p50_s``)."""

    numerator: MetricRef
    denominator: MetricRef | None = None

    @classmethod
    def parse(cls, text: str) -> "MetricExpression":
        """Read an expression.  Raises ValueError naming the text."""
        parts = [MetricRef.parse(part) for part in text.split(" / ")]
        if len(parts) > 2:
            raise ValueError(f"metric {text!r}: at most one ' / '")
        return cls(parts[0], parts[1] if len(parts) == 2 else None)

    @property
    def refs(self) -> tuple[MetricRef, ...]:
        """The metrics that it reads."""
        return (self.numerator,) if self.denominator is None else (self.numerator, self.denominator)
