"""One trial, really performed: fresh data, fresh server, probes, the load, the counters, the final reads.

The order matters.  The Locust child imports while the database is copied and the server starts.  Counters are reset after the first
probes and read before anything else touches the services; explained requests come after that, because auto_explain costs time.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.cores import Cores, divide, on, place, usable
from lab.environment import noise_between, noise_snapshot
from lab.errors import LoadError, ServerError
from lab.load import LoadChild, Measured, job_of, load_child
from lab.loadgen.sharing import processes_for
from lab.locate import scenario_file, target_app
from lab.model import Burst, ClosedLoad, Condition, GotchaPlan, Journey, StagedLoad, TrialPlan
from lab.observe import ACTIVITY_POLL_S, POLL_S, Poller, TreeWatch, descendants
from lab.probe_client import beside, bystander_of
from lab.probes import read_pointer, run_probe, send
from lab.record import EventSeen, PlanSeen, ProbeSeen, ProcessUse, Statement, TrialRecord
from lab.runner import Live
from lab.servers import RunningServer, http_parser, read_and_remove_rows, serving, wait_for_quiet
from lab.services.supervisor import Services
from lab.stage import Stage, staged
from lab.store import ROOT, TrialFolder, write_samples, write_server_rows

SETTLE_S = 0.6
BURST_MARGIN_S = 30.0
BOUNDED_BY_COUNT_S = 60.0


def limit_s(condition: Condition) -> float:
    """How long the load may take before it counts as hung, in seconds."""
    load = condition.load
    if isinstance(load, Burst):
        took = load.every_s * load.repeats + BURST_MARGIN_S
    elif isinstance(load, StagedLoad):
        took = sum(stage.duration_s for stage in load.stages)
    elif isinstance(load, Journey) or (isinstance(load, ClosedLoad) and load.requests):
        took = max(condition.duration_s, BOUNDED_BY_COUNT_S)
    else:
        took = condition.duration_s
    return took + condition.warmup_s + condition.drain_s


@dataclass
class Reads:
    """What is read around and after the load; filled step by step."""

    probes: list[ProbeSeen] = field(default_factory=list)
    statements: tuple[Statement, ...] = ()
    activity: dict[str, int] = field(default_factory=dict)
    series: list[tuple[int, ...]] = field(default_factory=list)
    sessions: int = 0
    redis_commands: Mapping[str, int] = field(default_factory=dict)
    redis_memory: int = 0
    processes: Mapping[str, ProcessUse] = field(default_factory=dict)
    cpu_series: list[tuple[int, ...]] = field(default_factory=list)
    plans: tuple[PlanSeen, ...] = ()
    final: dict[str, float] = field(default_factory=dict)
    tables: Mapping[str, int] = field(default_factory=dict)
    events: list[EventSeen] = field(default_factory=list)
    noise: Mapping[str, float] = field(default_factory=dict)
    bystander: list[float] = field(default_factory=list)


class RealExecutor:
    """Performs trials on real servers and services.  ``observe`` False leaves the wrapper out (for measuring its own cost)."""

    def __init__(self, services: Services, *, observe: bool = True, processes: int = 1) -> None:
        self._services = services
        self._observe = observe
        self._processes = processes
        self._templates: dict[str, str | None] = {}

    def perform(
        self,
        trial: TrialPlan,
        gotcha: GotchaPlan,
        condition: Condition,
        folder: TrialFolder,
        live: Callable[[Live], None],
    ) -> TrialRecord:
        """See ``lab.runner.Executor``.  Raises LabError where the trial failed."""
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        folder.path.mkdir(parents=True, exist_ok=True)
        processes = processes_for(condition.load, self._processes)
        cores = divide(usable(), condition.cores_needed, processes)
        with ExitStack() as stack:
            stack.enter_context(on(cores.generator))
            self._place_services(cores)
            work = self._services.guard.temporary_folder("trial-")
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            reads = Reads()
            # Locust needs the services' addresses too: a scenario may look at the truth in the database.
            database = stack.enter_context(self.database(gotcha, condition))
            with on(cores.target):
                stage = stack.enter_context(staged(self._services, gotcha, condition, trial, database, work, cores))
            child = stack.enter_context(load_child(self._services.guard, work / "load", stage.env, processes))
            with on(cores.target):
                server = stack.enter_context(
                    serving(
                        self._services.guard, stage.condition.server, target_app(gotcha.slug, trial.variant),
                        work, stage.target_env, python=stage.python, observe=self._observe,
                    )
                )  # fmt: skip
            stage.attach(server)
            reads.probes += [run_probe(server.url, probe, "before") for probe in gotcha.probes if probe.before]
            wait_for_quiet(SETTLE_S, server)
            job = job_of(
                scenario_file(gotcha.slug), condition, trial.variant, stage.url(server), trial.seed, processes,
            )  # fmt: skip
            try:
                measured = self._load(gotcha, child, server, stage, condition, job, reads, live)
                if not measured.error:
                    self._after(server, gotcha, trial.variant, database, reads)
            finally:
                _keep(work, folder.path)
            pids = server.worker_pids()
            server.child.stop(8.0)
            rows = read_and_remove_rows(server)
            if rows:
                write_server_rows(folder.path / "server.parquet", rows)
            if database and self._services.postgres:
                reads.tables = self._services.postgres.table_rows_read(database)
            _save_samples(measured.samples, folder.path / "samples.parquet")
            if measured.error:
                raise LoadError(f"the user class broke: {measured.error}", f"Mend scenarios/{gotcha.slug}.py.")
            return self._record(trial, stage, started_at, measured, server, pids, reads)

    def _place_services(self, cores: Cores) -> None:
        """The services outlive a trial, and the one before may have divided the cores in another way."""
        for service in (self._services.postgres, self._services.redis):
            if service is not None:
                for root in service.pids():
                    place(descendants(root), cores.target or usable())

    @contextmanager
    def database(self, gotcha: GotchaPlan, condition: Condition) -> Iterator[str]:
        """A fresh copy of the gotcha's dataset, dropped at the end; empty name where no PostgreSQL is used."""
        postgres = self._services.postgres
        if "postgres" not in gotcha.services or postgres is None:
            yield ""
            return
        if gotcha.slug not in self._templates:
            dataset = ROOT / "targets" / gotcha.slug / "dataset.sql"
            name = "lab_" + gotcha.slug.replace("/", "_")
            self._templates[gotcha.slug] = postgres.build_template(name, dataset) if dataset.is_file() else None
        database = postgres.fresh_copy(self._templates[gotcha.slug])
        try:
            if condition.setup_sql:
                postgres.execute(database, condition.setup_sql)
            yield database
        finally:
            postgres.drop(database)

    def _roots(
        self, gotcha: GotchaPlan, server: RunningServer, child: LoadChild, stage: Stage
    ) -> dict[str, Callable[[], list[int]]]:
        """The process trees to watch: of the services only those that the gotcha uses, for all that a run needs are up."""
        services = self._services
        roots: dict[str, Callable[[], list[int]]] = {
            "server": lambda: [stage.server_pid(server)],
            "generator": lambda: child.pids,
        }
        if services.postgres and "postgres" in gotcha.services:
            roots["postgres"] = services.postgres.pids
        if services.redis and "redis" in gotcha.services:
            roots["redis"] = services.redis.pids
        if stage.celery_pids:
            roots["celery"] = lambda: list(stage.celery_pids)
        return roots

    def _load(
        self, gotcha: GotchaPlan, child: LoadChild, server: RunningServer, stage: Stage, condition: Condition, job: Mapping[str, Any],
        reads: Reads, live: Callable[[Live], None],
    ) -> Measured:  # fmt: skip
        services, database = self._services, stage.database
        watch = TreeWatch(self._roots(gotcha, server, child, stage))
        pollers = [Poller(watch.poll, POLL_S)]
        if database and services.postgres:
            if services.redis:
                services.redis.reset_stats()
            services.postgres.reset_statements()
            sessions = services.postgres.sessions_opened(database)
            pollers.append(Poller(lambda: self._look_at_activity(database, reads), ACTIVITY_POLL_S))
        elif services.redis:
            services.redis.reset_stats()
        before = noise_snapshot()
        everybody = TreeWatch({"ours": lambda: [os.getpid(), *services.guard.child_pids()]})
        everybody.start()

        def started(at_ns: int) -> None:
            watch.start()
            stage.start_events(at_ns, reads.events)
            for poller in pollers:
                poller.start()

        def running(message: dict[str, Any]) -> None:
            live(Live("load", message.get("rate_rps", 0.0), message.get("p99_s", 0.0), message.get("errors", 0)))
            stage.check(server)

        try:
            with beside(services.guard, server.url, bystander_of(gotcha, condition), job["seed"], reads.bystander):
                measured = child.run(job, limit_s(condition), started, running)
        finally:
            problems = [poller.stop() for poller in pollers if poller.started]
            stage.stop_events()
        reads.processes = watch.stop()
        reads.cpu_series = watch.series
        reads.noise = noise_between(before, noise_snapshot(), everybody.stop()["ours"].cpu_ns)
        if services.redis:
            reads.redis_commands = services.redis.commandstats()
            reads.redis_memory = services.redis.memory_bytes()
        if database and services.postgres:
            reads.statements = tuple(services.postgres.statements(database))
            reads.sessions = services.postgres.sessions_opened(database) - sessions
        for problem in problems:
            if problem is not None:
                raise ServerError(f"the services could not be watched: {problem}", "See postgres.log of the run.")
        return measured

    def _look_at_activity(self, database: str, reads: Reads) -> None:
        assert self._services.postgres is not None
        seen = self._services.postgres.activity(database)
        seen = {**seen, "total": sum(seen.values())}
        for state, count in seen.items():
            reads.activity[state] = max(reads.activity.get(state, 0), count)
        row = (seen.get(state, 0) for state in ("total", "active", "idle", "idle in transaction"))
        reads.series.append((time.monotonic_ns(), *row))

    def _after(self, server: RunningServer, gotcha: GotchaPlan, variant: str, database: str, reads: Reads) -> None:
        """Explained requests, final reads and the second probes, on the server that has just carried the load."""
        postgres, redis = self._services.postgres, self._services.redis
        if database and postgres:
            reads.plans = tuple(self._explain(server, gotcha, variant))
        for read in gotcha.final_reads:
            if read.sql and postgres:
                reads.final[read.name] = float(postgres.scalar(database, read.sql))
            elif read.redis and redis:
                reads.final[read.name] = float(redis.command(*read.redis) or 0)
            elif read.path:
                answer = send(server.url, "GET", read.path)
                if answer.problem or answer.status >= 400:
                    raise ServerError(f"final read {read.name}: {answer.problem or answer.status}", "See server.log.")
                reads.final[read.name] = read_pointer(answer.body, read.pointer)
        reads.probes += [run_probe(server.url, probe, "after") for probe in gotcha.probes if probe.after]

    def _explain(self, server: RunningServer, gotcha: GotchaPlan, variant: str) -> Iterator[PlanSeen]:
        postgres = self._services.postgres
        assert postgres is not None
        for asked in gotcha.explained:
            if variant not in asked.paths:
                continue
            postgres.explain_begin()
            answer = send(server.url, "GET", asked.paths[variant])
            entries = postgres.explain_collect()
            if answer.problem or answer.status >= 400:
                problem = answer.problem or f"status {answer.status}"
                raise ServerError(f"explained request {asked.name}: {problem}", "Check its path in the scenario.")
            for entry in entries:
                yield PlanSeen(**{**vars(entry), "name": asked.name, "level": asked.level})

    def _record(
        self, trial: TrialPlan, stage: Stage, started_at: str, measured: Measured, server: RunningServer,
        pids: tuple[int, ...], reads: Reads,
    ) -> TrialRecord:  # fmt: skip
        services, condition, cores = self._services, stage.condition, stage.cores
        affinity = {"generator": cores.generator, "target": cores.target} if cores.target else {}
        return TrialRecord(
            trial.gotcha, trial.condition, trial.pair, trial.variant, trial.seed, status="ok", started_at=started_at,
            load_started_ns=measured.started_ns, load_ended_ns=measured.ended_ns, request_names=measured.request_names,
            command=_portable(server.command), server_pids=pids, loop=condition.server.loop, http=http_parser(condition.server),
            observed=measured.observed, final_reads=reads.final, probes=tuple(reads.probes), statements=reads.statements,
            tables=reads.tables, activity=reads.activity, activity_series=tuple(reads.series), sessions_opened=reads.sessions,
            redis_commands=reads.redis_commands, redis_memory_bytes=reads.redis_memory, processes=reads.processes,
            cpu_series=tuple(reads.cpu_series),
            plans=reads.plans, events=tuple(reads.events), generator=measured.generator, noise=reads.noise,
            affinity=affinity, versions=services.versions, extra={"probe_client_s": reads.bystander} if reads.bystander else {},
        )  # fmt: skip


def _portable(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command without this machine's paths, as a reader would type it."""
    return ("python", *command[1:])


def _save_samples(source: Path, path: Path) -> None:
    import numpy as np

    if source.exists():
        write_samples(path, np.load(source))


def _keep(work: Path, folder: Path) -> None:
    """Copy the trial's logs beside its results."""
    for log in [*work.glob("*.log"), *work.glob("load/*.log")]:
        shutil.copyfile(log, folder / log.name)
