"""Frozen dataclasses to JSON and back, checked at the door by pydantic."""

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from lab.words.errors import StoreError
from lab.words.formats import STEPS, updated

T = TypeVar("T")


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}  # building one takes milliseconds


def _adapter_of(kind: Any) -> TypeAdapter[Any]:
    return _ADAPTERS.setdefault(kind, _ADAPTERS.get(kind) or TypeAdapter(kind))


def to_json(value: Any) -> bytes:
    """A dataclass as indented JSON.  NaN and infinities are written as such and read back."""
    return json.dumps(to_dict(value), indent=1).encode()  # pydantic's own writer turns infinities into null


def to_dict(value: Any) -> Any:
    """A dataclass as plain JSON values."""
    return _adapter_of(type(value)).dump_python(value, mode="json")


def from_json(kind: type[T], text: bytes | str, where: str) -> T:
    """Read a ``kind`` back, from an older format too.  Raises StoreError naming ``where`` and the first field that does not fit."""
    try:
        if kind.__name__ in STEPS:
            value: T = _adapter_of(kind).validate_python(updated(kind.__name__, _parsed(text, where), where))
        else:
            value = _adapter_of(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{where}: not a {kind.__name__}: {field or 'document'}: {first['msg']}",
                         "The file is damaged or from another version; delete its folder and run again.") from error  # fmt: skip
    return value


def _parsed(text: bytes | str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise StoreError(
            f"{where}: no JSON: {error}", "The file is damaged; delete its folder and run again."
        ) from None
