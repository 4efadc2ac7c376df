"""How often ``fastapi.encoders.jsonable_encoder`` is called for a request, in ``x-lab-encoder-calls``; it calls itself for each part."""

from typing import Any

from . import PerRequest

COUNT = PerRequest("x-lab-encoder-calls")
wrap = COUNT.wrap


def prepare() -> None:
    """From here on every call is counted, under each name that FastAPI itself calls it by."""
    import fastapi.encoders
    import fastapi.routing

    encode = fastapi.encoders.jsonable_encoder

    def counted(*args: Any, **options: Any) -> Any:
        COUNT.add()
        return encode(*args, **options)

    for module in (fastapi.encoders, fastapi.routing):
        setattr(module, "jsonable_encoder", counted)  # noqa: B010
