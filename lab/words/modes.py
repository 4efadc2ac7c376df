"""What the fault proxy does to the bytes that pass through it, as values; their text is what a plan stores and the proxy reads."""

from dataclasses import dataclass


@dataclass(frozen=True)
class _Kind:
    """A mode's amount in words ("" for none) and the greatest that makes sense."""

    amount: str = ""
    most: float = 0.0


MODES = {
    "pass": _Kind(),
    "delay": _Kind("milliseconds", 60_000),
    "drop_replies": _Kind("a probability", 1),
    "drop_first_replies": _Kind("a number of replies", 1_000_000),
    "cut": _Kind(),
    "stall": _Kind(),
    "refuse": _Kind(),
    "swallow": _Kind(),
    "answer_500": _Kind(),
}
"""What there is; ``lab.services.proxy`` says what each does."""


class Mode(str):
    """A mode as it is written: ``delay:5``."""

    @property
    def name(self) -> str:
        """The mode without its amount."""
        return self.partition(":")[0]

    @property
    def amount(self) -> float:
        """Its amount; 0 for a mode that has none."""
        return float(self.partition(":")[2] or 0)


def mode_of(text: str) -> Mode:
    """A mode from its text.  Raises ValueError for one that is none, and for an amount that it does not take."""
    name, _, amount = text.partition(":")
    kind = MODES.get(name)
    if kind is None:
        raise ValueError(f"unknown mode {text!r}; there are {', '.join(MODES)}")
    try:
        fits = 0 <= float(amount) <= kind.most if kind.amount else not amount
    except ValueError:
        fits = False
    if not fits:
        takes = f"takes {kind.amount}, from 0 to {kind.most:g}" if kind.amount else "takes no amount"
        raise ValueError(f"mode {text!r}: {name} {takes}")
    return Mode(text)


PASS, CUT, STALL, REFUSE, SWALLOW, ANSWER_500 = map(
    mode_of, ("pass", "cut", "stall", "refuse", "swallow", "answer_500")
)


def delay(milliseconds: float) -> Mode:
    """Every chunk is held back so long, in each direction."""
    return mode_of(f"delay:{milliseconds:g}")


def drop_replies(probability: float) -> Mode:
    """Requests arrive; their replies are lost with this probability."""
    return mode_of(f"drop_replies:{probability:g}")


def drop_first_replies(number: int) -> Mode:
    """Requests arrive; the first so many replies are lost."""
    return mode_of(f"drop_first_replies:{number}")
