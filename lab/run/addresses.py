"""Where the target finds its services: the addresses that it is told, and those of whoever asks a service itself."""

from collections.abc import Mapping, Sequence

from lab.services.kind import kind_of as kind_of_service
from lab.services.kind import with_needed
from lab.services.proxy import FaultProxy
from lab.services.supervisor import Services


def addresses(
    services: Services, names: Sequence[str], database: str, lane: int | None
) -> tuple[dict[str, str], dict[str, str]]:
    """The addresses for whoever asks a service itself, and those of the target, which may be told another one that stands between."""
    own: dict[str, str] = {}
    told: dict[str, str] = {}
    for name in with_needed(names):
        kind, running = kind_of_service(name), services.up.get(name)
        url = running.address(database, lane) if running is not None and kind.variable else ""
        if url:
            (told if kind.between else own)[kind.variable] = url
    return own, {**own, **told}


def through(env: Mapping[str, str], proxy: FaultProxy, variable: str) -> dict[str, str]:
    """The same addresses, one of them by way of the proxy."""
    from urllib.parse import urlsplit

    parts = urlsplit(env[variable])
    proxy.point_at(parts.hostname or "127.0.0.1", parts.port or 0)
    authority = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    changed = parts._replace(netloc=f"{authority}127.0.0.1:{proxy.port}")
    return {**env, variable: changed.geturl()}
