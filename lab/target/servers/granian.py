"""granian: a server in Rust; its HTTP parser is hyper."""

from lab.model import Server
from lab.target.servers.kind import ServerKind


def _arguments(server: Server, app: str, port: int) -> list[str]:
    return [
        "-m", "granian", app, "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port),
        "--workers", str(server.workers), "--loop", server.loop, "--no-access-log", "--log-level", "warning",
    ]  # fmt: skip


SERVER = ServerKind(
    "granian", "granian", _arguments, loops=("uvloop", "asyncio", "rloop"), own_parser="hyper",
    replaces=lambda server: "--respawn-failed-workers" in server.options,
)  # fmt: skip
