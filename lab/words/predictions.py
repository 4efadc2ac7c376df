"""Where a claim speaks: small helpers for ``Claim.predict``, which gives None for a condition that the claim says nothing about."""

from collections.abc import Callable
from typing import TypeAlias

from lab.words.conditions import Condition

Predict: TypeAlias = Callable[[Condition], float | None]
Value: TypeAlias = float | Predict
"""A number, or a function of the condition."""


def where(holds: Callable[[Condition], object], value: Value) -> Predict:
    """``value`` under the conditions that ``holds`` is true of."""

    def predict(condition: Condition) -> float | None:
        if not holds(condition):
            return None
        return value(condition) if callable(value) else value

    return predict


def under(*labels: str, value: Value) -> Predict:
    """``value`` under the conditions of these labels."""
    return where(lambda condition: condition.label in labels, value)


def having(*params: str, value: Value) -> Predict:
    """``value`` under the conditions that have all of these parameters."""
    return where(lambda condition: all(one in condition.params for one in params), value)


def in_control(value: Value) -> Predict:
    """``value`` under the controls."""
    return where(lambda condition: condition.control, value)


def in_duet(value: Value) -> Predict:
    """``value`` where the variants share every second."""
    return where(lambda condition: condition.duet, value)
