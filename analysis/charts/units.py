"""Numbers as people read them: seconds as µs, ms or s, bytes as kB or MB, shares as percent."""

import math
from dataclasses import dataclass

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_PLAIN = ((1.0, ""),)
SECONDS = ("s", "s/request")


@dataclass(frozen=True)
class Scale:
    """A unit as printed: values are divided by ``factor``; ``name`` follows them ("ms", "%", "")."""

    factor: float
    name: str


def scale_of(value: float, unit: str) -> Scale:
    """The unit in which ``value`` (SI) reads best."""
    if unit == "share":
        return Scale(0.01, "%")
    table = _TIMES if unit in SECONDS else _BYTES if unit == "B" else _PLAIN
    size = abs(value)
    if size == 0 or not math.isfinite(size):
        return Scale(*table[0]) if unit not in SECONDS else Scale(1e-3, "ms")
    # 0.9995 so that what rounds to 1 of a unit is written in it.
    factor, name = next((one for one in table if size >= 0.9995 * one[0]), table[-1])
    return Scale(factor, name)


def digits(value: float, figures: int = 3) -> str:
    """A number in about three figures, thousands grouped, whole numbers whole; a typographic minus."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "unknown"
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (figures - 1) or (value == round(value) and abs(value) < 1e15):
        text = f"{round(value):,}"
    else:
        places = figures - 1 - math.floor(math.log10(abs(value)))
        if places > 8:
            return f"{value:.{figures - 1}g}".replace("-", "−")
        text = f"{value:.{places}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−")


def human(value: float | None, unit: str = "") -> str:
    """A value with its unit: ``human(0.0000613, "s/request")`` is "61.3 µs/request", ``human(4, "x")`` is "4×"."""
    if value is None:
        return "not measured"
    if value == math.inf:
        return "never"
    scale = scale_of(value, unit)
    number = digits(value / scale.factor)
    if unit == "x":
        return f"{number}×"
    if unit == "requests/s":
        return f"{number}/s"
    if unit in ("per request", "per burst"):
        return f"{number} {unit}"
    suffix = "/request" if unit == "s/request" else ""
    return f"{number} {scale.name}{suffix}".rstrip() if scale.name else number


def human_range(low: float, high: float, unit: str = "") -> str:
    """An interval in one unit: "2.9 to 3.4 ms"."""
    if low == high:
        return human(low, unit)
    if not math.isfinite(high):
        return f"{human(low, unit)} to {human(high, unit)}"
    scale = scale_of(max(abs(low), abs(high)), unit)
    text = f"{digits(low / scale.factor)} to {digits(high / scale.factor)}"
    ends = {"x": "×", "requests/s": "/s", "s/request": f" {scale.name}/request"}
    return text + ends.get(unit, f" {scale.name}" if scale.name else "")


def axis_words(label: str, unit: str, scale: Scale) -> str:
    """An axis label with its unit in brackets, where it has one."""
    if unit == "requests/s" and "per second" in label:
        return label
    name = {"requests/s": "per second", "x": "times"}.get(unit, scale.name)
    if unit == "s/request":
        name = f"{scale.name} per request"
    return f"{label} ({name})" if name and f"({name})" not in label else label
