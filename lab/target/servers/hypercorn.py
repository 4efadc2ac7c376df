"""hypercorn: a master with workers, HTTP/1.1 by h11, HTTP/2 by h2."""

from lab.model import Server
from lab.target.servers.kind import KEEP_ALIVE_S, ServerKind


def _arguments(server: Server, app: str, port: int) -> list[str]:
    return [
        "-m", "hypercorn", app, "--bind", f"127.0.0.1:{port}", "--workers", str(server.workers),
        "--worker-class", server.loop, "--keep-alive", str(KEEP_ALIVE_S), "--log-level", "warning",
    ]  # fmt: skip


SERVER = ServerKind(
    "hypercorn", "hypercorn", _arguments, own_parser="h11 (hypercorn)",
    replaces=lambda server: False,  # 0.18: the master ends when a worker was killed (hypercorn/run.py)
)  # fmt: skip
