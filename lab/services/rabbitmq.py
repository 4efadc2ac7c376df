"""RabbitMQ, a broker for Celery that keeps what it was given: a node of the lab's own, on the loopback, with its own Erlang port mapper.

The program is looked for on the PATH (Debian's package is ``rabbitmq-server``).  The port mapper that Erlang starts by itself would outlive
the lab, so one is started first, as a child like any other.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from lab.ports import PortReservation, is_listening
from lab.processes import Child, unused_log, wait_until
from lab.redact import keep_secret
from lab.services.kind import ServiceKind, Start
from lab.services.postgres_binaries import account
from lab.words.errors import NotHereError, ServerError, ServiceError

START_TIMEOUT_S = 60.0
CONTROL_TIMEOUT_S = 60.0
SCRIPTS = Path("/usr/lib/rabbitmq/bin")
"""Where Debian has the scripts themselves: those on the PATH are for its own service, and change the user and the logs."""


class RabbitMQ:
    """A RabbitMQ of ours.  ``readings``: messages that are in queues when the load is over."""

    source = "system"

    def __init__(
        self, children: tuple[Child, Child], url: str, version: str, control: Callable[..., str], clean: Callable[[], None]
    ) -> None:  # fmt: skip
        self.version = version
        self._children = children
        self._url = url
        self._control = control
        self._clean = clean

    def pids(self) -> list[int]:
        """The node and the port mapper."""
        return [child.pid for child in self._children]

    def problem(self) -> str:
        """Which of the two ended how, or an empty string."""
        ended = [(child, code) for child in self._children if (code := child.poll()) is not None]
        return "; ".join(f"{child.name} died (code {code}): {child.log_tail(3)}" for child, code in ended)

    def address(self, database: str, lane: int | None) -> str:
        """The broker's address.  Raises NotHereError in a duet: its arms would share the queues."""
        if lane is not None:
            raise NotHereError("the arms of a duet would share RabbitMQ's queues", "Run them one after another.")
        return self._url

    def begin_counting(self) -> None:
        """Nothing is counted before: what is left at the end is what counts."""

    def readings(self) -> Mapping[str, float]:
        """See the class."""
        counts = [line for line in self._control("list_queues", "messages").splitlines() if line.strip().isdigit()]
        return {"messages_left": float(sum(map(int, counts))), "queues": float(len(counts))}

    def stop(self) -> None:
        """Stop the node, then the port mapper; their files go."""
        for child in self._children:
            child.stop(8.0)
        self._clean()


def start_rabbitmq(start: Start) -> RabbitMQ:
    """A node of our own.  Raises NotHereError where its programs are not on the PATH, ServiceError where it does not start."""
    server, epmd = _script("rabbitmq-server"), shutil.which("epmd")
    if server is None or epmd is None:
        raise NotHereError(
            "rabbitmq-server is not on the PATH", "Install it: Debian's package is called rabbitmq-server."
        )
    user, folder = account(), start.guard.temporary_folder("rabbitmq-")
    password = keep_secret(secrets.token_urlsafe(18))
    with PortReservation() as amqp, PortReservation() as mapper, PortReservation() as distribution:
        lines = {
            "listeners.tcp.1": f"127.0.0.1:{amqp.port}", "default_user": "lab", "default_pass": password, "log.console": "true",
            "log.console.level": "info", "log.file": "false", "disk_free_limit.absolute": "50MB",
        }  # fmt: skip
        config = folder / "rabbitmq.conf"
        config.touch(mode=0o600)
        config.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
        (folder / "enabled_plugins").write_text("[].\n")
        if user is not None:
            for path in (folder, config, folder / "enabled_plugins"):
                shutil.chown(path, user)
        env = {
            "PATH": os.environ.get("PATH", ""), "HOME": str(folder), "LC_ALL": "C.UTF-8", "ERL_EPMD_PORT": str(mapper.port),
            "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_NODENAME": f"lab{secrets.token_hex(4)}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution.port), "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"), "RABBITMQ_LOGS": "-", "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"), "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }  # fmt: skip
        log_path = unused_log(start.log_folder, "rabbitmq")
        mapped = start.guard.spawn(
            [epmd, "-address", "127.0.0.1", "-port", str(mapper.port)],
            env=env,
            cwd=folder,
            log_path=log_path,
            name="epmd",
            user=user,
        )
        child = start.guard.spawn([server], env=env, cwd=folder, log_path=log_path, name="rabbitmq", user=user)
        try:
            wait_until(lambda: is_listening(mapper.port), START_TIMEOUT_S, mapped, "the port mapper to listen")
            wait_until(lambda: _complete(log_path), START_TIMEOUT_S, child, "RabbitMQ to complete its start")
        except ServerError as error:
            child.stop(3.0)
            mapped.stop(3.0)
            start.guard.remove(folder)
            raise ServiceError(f"RabbitMQ does not start: {error}", f"See {log_path.name}.") from error

    def control(*words: str) -> str:
        return _control(env, user, folder, words)

    version = f"RabbitMQ {control('version').strip()}"
    url = f"amqp://lab:{password}@127.0.0.1:{amqp.port}//"
    return RabbitMQ((child, mapped), url, version, control, lambda: start.guard.remove(folder))


def _script(name: str) -> str | None:
    """The script itself, else whatever is on the PATH."""
    return str(SCRIPTS / name) if (SCRIPTS / name).is_file() else shutil.which(name)


def _complete(log_path: Path) -> bool:
    try:
        return "Server startup complete" in log_path.read_text(errors="replace")
    except OSError:
        return False


def _control(env: Mapping[str, str], user: str | None, folder: Path, words: tuple[str, ...]) -> str:
    """What rabbitmqctl answers.  Raises ServerError."""
    script = _script("rabbitmqctl")
    if script is None:
        raise ServerError("rabbitmqctl is not on the PATH", "It belongs to the package rabbitmq-server.")
    identity = {} if user is None else {"user": user, "extra_groups": []}
    try:
        done = subprocess.run(
            [script, "--quiet", *words],
            env=env,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=CONTROL_TIMEOUT_S,
            **identity,  # type: ignore[call-overload]
        )
    except subprocess.TimeoutExpired:
        raise ServerError(
            f"rabbitmqctl {words[0]} did not answer in {CONTROL_TIMEOUT_S:.0f} s", "See rabbitmq.log."
        ) from None
    if done.returncode:
        raise ServerError(f"rabbitmqctl {words[0]}: {done.stderr.strip()[-300:]}", "See rabbitmq.log.")
    return str(done.stdout)


KIND = ServiceKind("rabbitmq", start_rabbitmq, variable="AMQP_URL", drivers=("celery",))
