"""What stands around the target during one trial: upstream, Celery workers, fault proxy, another interpreter, and events in time."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from lab.locate import app_of
from lab.model import App, Condition, Event, GotchaPlan, TrialPlan
from lab.observe.cores import SHARED, Cores, on
from lab.observe.trees import descendants
from lab.run.addresses import addresses, through
from lab.run.victims import busiest, local_ports, pool_processes
from lab.services.celery import CeleryNode, start_celery
from lab.services.kind import kind_of as kind_of_service
from lab.services.proxy import FaultProxy, start_proxy
from lab.services.supervisor import Services
from lab.services.upstream import start_upstream
from lab.target.address import Address
from lab.target.interpreters import target_python
from lab.target.protocol import Target
from lab.target.running import RunningServer, start_server
from lab.target.servers import kind_of
from lab.words.errors import ServerError
from lab.words.record import EventSeen

TARGET_LOGS = ("server", "celery")
"""How the names of the logs begin that an operator of the target would read."""
EVENT_LIMIT_S = 30.0
"""An event that waits for its moment gives up after 3 s; one that starts a server has as long as a server may take."""


@dataclass
class Stage:
    """The surroundings of one trial.  ``env`` is what the load child sees, ``target_env`` what the target sees."""

    services: Services
    condition: Condition
    app: App
    database: str
    folder: Path
    python: str
    env: dict[str, str]
    target_env: dict[str, str]
    nodes: list[CeleryNode] = field(default_factory=list)
    proxy: FaultProxy | None = None
    cores: Cores = SHARED
    lines_before: int | None = None
    """Lines in the target's logs when the first event happened."""
    _server: RunningServer | None = None
    _restarted: RunningServer | None = None
    _killed: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _problem: str = ""

    def attach(self, server: Target) -> None:
        """Tell the stage which server the events are about; a proxy before the target learns its port."""
        self._server = server if isinstance(server, RunningServer) else None
        if self.proxy and self.condition.proxy and self.condition.proxy.where == "target":
            self.proxy.point_at(server.address.host, server.address.port)

    def address(self, server: Target) -> Address:
        """Where the load goes: the target, or the proxy before it."""
        if self.proxy and self.condition.proxy and self.condition.proxy.where == "target":
            return replace(server.address, url=f"{self.proxy.url}{server.address.base}")
        return server.address

    def roots(self, server: Target) -> list[int]:
        """The roots of the target's trees now."""
        return (self._restarted or server).roots()

    @property
    def celery_pids(self) -> list[int]:
        """Main processes of the Celery workers."""
        return [node.child.pid for node in self.nodes if node.child.poll() is None]

    def check(self, server: Target) -> None:
        """Fail early where the server has died without an event asking for it.  Raises ServerError."""
        if self._problem:
            raise ServerError(self._problem, "Check the events of the scenario.")
        problem = "" if self._killed else server.problem()
        if problem:
            raise ServerError(f"{problem} (during the load)", "See server.log.")

    def log_lines(self) -> int:
        """Lines that the target, and its Celery workers, have written so far."""
        return sum(
            path.read_bytes().count(b"\n") for path in self.folder.glob("*.log") if path.name.startswith(TARGET_LOGS)
        )

    def signs(self) -> dict[str, int]:
        """``log_lines``: how many lines were logged since the first event; empty where there was none."""
        return {} if self.lines_before is None else {"log_lines": self.log_lines() - self.lines_before}

    def start_events(self, started_ns: int, seen: list[EventSeen]) -> None:
        """Let the condition's events happen at their times after ``started_ns``."""
        if not self.condition.events:
            return
        self._thread = threading.Thread(target=self._play, args=(started_ns, seen), daemon=True)
        self._thread.start()

    def stop_events(self) -> None:
        """Let no further event happen and wait for the one that is happening."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=EVENT_LIMIT_S)

    def require_events(self, seen: Sequence[EventSeen]) -> None:
        """Every planned event has happened.  Raises ServerError with the reason where one has not."""
        if self._problem:
            raise ServerError(self._problem, "Check the events of the scenario.")
        planned = sorted(self.condition.events, key=lambda one: one.at_s)
        if len(seen) < len(planned):
            missed = planned[len(seen)]
            raise ServerError(
                f"event {_name(missed)} was planned {missed.at_s} s after the start and had not happened when the load was over",
                "The load ended before it, or it took too long: let the load last longer or plan it earlier.",
            )

    def _play(self, started_ns: int, seen: list[EventSeen]) -> None:
        for event in sorted(self.condition.events, key=lambda one: one.at_s):
            wait_s = event.at_s - (time.monotonic_ns() - started_ns) / 1e9
            if self._stop.wait(max(0.0, wait_s)):
                return
            before = self.log_lines()
            try:
                with on(self.cores.target):
                    detail = self._do(event)
                at_ns = time.monotonic_ns()  # afterwards: some events wait for their moment
            except Exception as error:  # on a thread: whatever it is, the trial must hear of it
                self._problem = f"event {_name(event)} at {event.at_s} s: {type(error).__name__}: {error}"
                return
            seen.append(EventSeen(_name(event), event.action, at_ns, detail))
            if self.lines_before is None:
                self.lines_before = before

    def _do(self, event: Event) -> str:
        match event.action:
            case "kill" | "term":
                return self._signal(event)
            case "start":
                return self._start(event)
            case "sql":
                assert self.services.postgres is not None
                # by the lab's own role: what the target asked is counted by the target's
                self.services.postgres.execute(self.database, event.statement, as_target=False)
            case "redis":
                assert self.services.redis is not None
                self.services.redis.command(*event.statement.split())
            case "fault":
                if self.proxy is None:
                    raise ServerError("there is no fault proxy", "Give the condition a Proxy.")
                self.proxy.set_mode(event.statement)
        return event.statement

    def _signal(self, event: Event) -> str:
        number = signal.SIGKILL if event.action == "kill" else signal.SIGTERM
        reached = 0
        for pid in self._whom(event.whom):
            with suppress(psutil.NoSuchProcess):  # it went by itself in this moment
                psutil.Process(pid).send_signal(number)
                reached += 1
        if not reached:
            raise ServerError(
                f"there is nobody to signal: {event.whom}", "Move the event to a moment in which somebody is."
            )
        return f"{signal.Signals(number).name} to {reached} process(es) of {event.whom}"

    def _whom(self, whom: str) -> list[int]:
        server = self._restarted or self._server
        if whom.startswith("celery"):
            mains = self.celery_pids
            children = [pid for main in mains for pid in descendants(main) if pid != main]
            if whom == "celery_main":
                return mains
            return children[:1] if whom == "celery_child" else mains + children
        assert server is not None
        if whom == "server":
            self._killed = True
            return descendants(server.child.pid)
        tree = set(descendants(server.child.pid))  # a number that a worker had may be somebody else's by now
        workers = [pid for pid in server.worker_pids() if pid in tree]
        if not kind_of(self.condition.server.kind).replaces(self.condition.server):
            self._killed = True
        if whom == "querying":
            return [self._querying(workers)]
        serving = busiest(workers, server.port)
        if whom == "child":
            return [pid for worker in serving for pid in pool_processes(worker, workers)][:1]
        return serving[:1]

    def _querying(self, workers: list[int]) -> int:
        """The worker whose connection runs a statement at this moment, found by its local port."""
        postgres = self.services.postgres
        assert postgres is not None
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            ports = postgres.active_client_ports(self.database)
            for pid in workers:
                if not ports.isdisjoint(local_ports(pid)):
                    return pid
            time.sleep(0.01)
        raise ServerError("no worker runs a statement", "Move the event to a moment in which one does.")

    def _start(self, event: Event) -> str:
        if event.whom.startswith("celery"):
            assert self.condition.celery is not None
            self.nodes += start_celery(
                self.services.guard, self.app.module.partition(":")[0], self.condition.celery, self.folder, self.target_env,
                python=self.python, generation=len(self.nodes),
            )  # fmt: skip
            return "celery started again"
        assert self._server is not None
        self._server.child.stop(5.0)
        self._restarted = start_server(
            self.services.guard, self.condition.server, self.app, self.folder, self.target_env,
            python=self.python, name="server-again", port=self._server.port,
        )  # fmt: skip
        return "server started again"

    def close(self) -> None:
        """Stop what the events started."""
        self._stop.set()
        if self._restarted is not None:
            self._restarted.child.stop(8.0)
        for node in self.nodes:
            # Everything was counted by now; a warm shutdown would take Celery six seconds, to finish jobs that nobody asks for.
            node.child.stop(0.2)


def _name(event: Event) -> str:
    return event.label or f"{event.action} {event.whom}".strip()


@contextmanager
def staged(
    services: Services, gotcha: GotchaPlan, condition: Condition, trial: TrialPlan, database: str, folder: Path,
    cores: Cores = SHARED, lane: int | None = None,
) -> Iterator[Stage]:  # fmt: skip
    """Everything around the target of one trial, gone at the end.  ``lane`` is the arm's number in a duet, where each has a Redis database.

    Raises LabError where something cannot be had.
    """
    app = app_of(gotcha, trial.variant)
    condition = replace(condition, server=condition.server_of(trial.variant))
    with ExitStack() as stack:
        python = app.python or target_python(condition, gotcha.services_of(condition))
        if services.redis and not lane:
            services.redis.flush()
        services.require(condition.services)
        env, told = addresses(services, gotcha.services_of(condition), database, lane)
        if condition.upstream:
            upstream = stack.enter_context(start_upstream(services.guard, condition.upstream.delay_s, folder))
            env["UPSTREAM_URL"] = told["UPSTREAM_URL"] = upstream.url
        target_env = {**told, **condition.env, "LAB_OBSERVERS": ",".join(condition.observers)}
        proxy = None
        if condition.proxy:
            proxy = stack.enter_context(start_proxy(services.guard, folder, seed=trial.seed, mode=condition.proxy.mode))
            if condition.proxy.where != "target":
                target_env = through(target_env, proxy, kind_of_service(condition.proxy.where).variable)
        stage = Stage(
            services,
            condition,
            app,
            database,
            folder,
            python,
            env,
            target_env,
            proxy=proxy,
            cores=cores,
        )
        stack.callback(stage.close)
        if condition.celery:
            stage.nodes += start_celery(
                services.guard,
                app.module.partition(":")[0],
                condition.celery,
                folder,
                target_env,
                python=python,
                generation=0,
            )
        yield stage
