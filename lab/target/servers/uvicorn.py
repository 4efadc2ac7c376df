"""uvicorn: one process, or a supervisor with workers."""

from lab.model import Server
from lab.target.servers.kind import KEEP_ALIVE_S, ServerKind


def _arguments(server: Server, app: str, port: int) -> list[str]:
    # no access log, no proxy headers: both change what is measured
    loop = "rloop:new_event_loop" if server.loop == "rloop" else server.loop
    return [
        "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port), "--workers", str(server.workers),
        "--loop", loop, "--http", server.http, "--no-access-log", "--no-proxy-headers",
        "--log-level", "warning", "--timeout-keep-alive", str(KEEP_ALIVE_S),
    ]  # fmt: skip


SERVER = ServerKind(
    "uvicorn",
    "uvicorn",
    _arguments,
    loops=("uvloop", "asyncio", "zuvloop", "rloop"),
    parsers=("httptools", "h11", "zttp"),
    replaces=lambda server: server.workers > 1,
)
