"""gunicorn with the worker classes of the package uvicorn-worker."""

from lab.model import Server
from lab.target.servers.kind import KEEP_ALIVE_S, ServerKind

WORKERS = {("uvloop", "httptools"): "UvicornWorker", ("asyncio", "h11"): "UvicornH11Worker"}


def _arguments(server: Server, app: str, port: int) -> list[str]:
    return [
        "-m", "gunicorn", app, "-k", f"uvicorn_worker.{WORKERS[server.loop, server.http]}", "-b", f"127.0.0.1:{port}",
        "-w", str(server.workers), "--no-control-socket", "--log-level", "warning", "--keep-alive", str(KEEP_ALIVE_S),
        "--forwarded-allow-ips", "",
    ]  # fmt: skip


def _pairs(server: Server) -> str:
    known = (server.loop, server.http) in WORKERS
    return "" if known else "uvicorn-worker has two worker classes: uvloop with httptools, and asyncio with h11"


SERVER = ServerKind(
    "gunicorn-uvicorn",
    "gunicorn",
    _arguments,
    parsers=("httptools", "h11"),
    default_parser=lambda loop: "h11" if loop == "asyncio" else "httptools",
    pairs=_pairs,
)
