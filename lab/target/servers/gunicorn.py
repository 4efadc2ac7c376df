"""gunicorn with its own asgi worker."""

from lab.model import Server
from lab.target.servers.kind import KEEP_ALIVE_S, ServerKind


def _arguments(server: Server, app: str, port: int) -> list[str]:
    return [
        "-m", "gunicorn", app, "-k", "asgi", "-b", f"127.0.0.1:{port}", "-w", str(server.workers), "--asgi-loop", server.loop,
        "--no-control-socket", "--log-level", "warning", "--keep-alive", str(KEEP_ALIVE_S),
    ]  # fmt: skip


SERVER = ServerKind("gunicorn", "gunicorn", _arguments, own_parser="gunicorn")
