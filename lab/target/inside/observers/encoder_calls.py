"""How often ``fastapi.encoders.jsonable_encoder`` is called for a request, in ``x-lab-encoder-calls``; it calls itself for each part."""

import importlib
from typing import Any

from . import PerRequest

COUNT = PerRequest("x-lab-encoder-calls")
wrap = COUNT.wrap


def prepare() -> None:
    """From here on every call is counted, under each name that FastAPI itself calls it by."""
    # By name: the lab itself knows no framework, the target's process does.
    encoders, routing = importlib.import_module("fastapi.encoders"), importlib.import_module("fastapi.routing")
    encode = encoders.jsonable_encoder

    def counted(*args: Any, **options: Any) -> Any:
        COUNT.add()
        return encode(*args, **options)

    for module in (encoders, routing):
        setattr(module, "jsonable_encoder", counted)  # noqa: B010
