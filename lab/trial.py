"""One trial, really performed: fresh data, fresh server, probes, the load, the counters, the final reads.

The Locust child imports while the database is copied and the server starts.  What is read, and in which order, is in ``lab.reading``.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.cores import Cores, divide, on, place, siblings, usable
from lab.environment import noise_between, noise_snapshot
from lab.errors import LoadError, NotHereError, ServerError, ServiceError, StoreError, UsageError
from lab.load import LoadChild, Measured, job_of, load_child
from lab.loadgen.lengths import longest_s
from lab.loadgen.sharing import processes_for
from lab.locate import scenario_file, target_app
from lab.model import Condition, GotchaPlan, TrialPlan
from lab.observe import ACTIVITY_POLL_S, POLL_S, Poller, TreeWatch, descendants
from lab.probe_client import Bystander, beside, bystander_of
from lab.probes import run_probe
from lab.reading import COUNTED, Reader, asks_for
from lab.record import TrialRecord
from lab.redact import redacted_bytes
from lab.runner import Live
from lab.servers import RunningServer, http_parser, read_and_remove_rows, serving, wait_for_quiet, wait_for_rows
from lab.services.supervisor import Services
from lab.stage import Stage, staged
from lab.store import ROOT, TrialFolder, write_bytes, write_samples, write_server_rows

SETTLE_S = 0.6


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
        """See ``lab.runner.Executor``.  Raises LabError where the trial failed: a ServiceError where a service had died in it."""
        if self._services.revive():
            self._templates.clear()
        try:
            record = self._perform(trial, gotcha, condition, folder, live)
        except (StoreError, UsageError, NotHereError):
            raise
        except Exception as error:
            self._blame_services(gotcha, error)
            raise
        self._blame_services(gotcha, None)
        return record

    def _blame_services(self, gotcha: GotchaPlan, error: Exception | None) -> None:
        """What went wrong while a service was away is not the target's doing.  Raises ServiceError."""
        problem = self._services.problem(gotcha.services)
        if problem:
            hint = f"Seen first: {error}" if error else "The service is started again for the next trial."
            raise ServiceError(f"{problem}; what the target did without it says nothing", hint) from error

    def _perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: Callable[[Live], None]
    ) -> TrialRecord:  # fmt: skip
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        _make(folder.path)
        processes = processes_for(condition.load, self._processes)
        cores = divide(usable(), condition.cores_needed, processes, siblings(usable()))
        with ExitStack() as stack:
            stack.enter_context(on(cores.generator))
            self._place_services(cores)
            work = stack.enter_context(self._services.guard.folder("trial-"))
            stack.callback(keep_logs, work, folder.path)
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
            reader = Reader(self._services, gotcha, database)
            reader.reads.probes += [run_probe(server.url, probe, "before") for probe in gotcha.probes if probe.before]
            wait_for_quiet(SETTLE_S, server)
            job = job_of(
                scenario_file(gotcha.slug), condition, trial.variant, stage.url(server), trial.seed, processes,
            )  # fmt: skip
            measured = self._load(gotcha, child, server, stage, condition, job, reader, live)
            _save_samples(measured.samples, folder.path / "samples.parquet")
            if measured.error:
                raise LoadError(f"the user class broke: {measured.error}", f"Mend scenarios/{gotcha.slug}.py.")
            stage.require_events(reader.reads.events)
            reader.after(server, trial.variant)
            pids = server.worker_pids()
            server.child.stop(8.0)
            rows = read_and_remove_rows(server)
            if rows:
                write_server_rows(folder.path / "server.parquet", rows)
            reader.reads.notes += keep_logs(work, folder.path)
            return self._record(trial, stage, started_at, measured, server, pids, reader)

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
            self._templates[gotcha.slug] = postgres.build_template(dataset) if dataset.is_file() else None
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
        """The process trees to watch: of the services only those that the gotcha uses, and only where they are ours.

        A service of the user's has no processes here, and then no CPU time: that is refused, not 0.
        """
        services = self._services
        roots: dict[str, Callable[[], list[int]]] = {
            "server": lambda: [stage.server_pid(server)],
            "generator": lambda: child.pids,
        }
        if services.postgres and "postgres" in gotcha.services and services.postgres.pids():
            roots["postgres"] = services.postgres.pids
        if services.redis and "redis" in gotcha.services and services.redis.pids():
            roots["redis"] = services.redis.pids
        if stage.celery_pids:
            roots["celery"] = lambda: list(stage.celery_pids)
        return roots

    def _load(
        self, gotcha: GotchaPlan, child: LoadChild, server: RunningServer, stage: Stage, condition: Condition, job: Mapping[str, Any],
        reader: Reader, live: Callable[[Live], None],
    ) -> Measured:  # fmt: skip
        services, reads = self._services, reader.reads
        exclude = {"postgres": services.postgres.own_backends} if services.postgres else {}
        watch = TreeWatch(self._roots(gotcha, server, child, stage), exclude)
        pollers = [Poller(watch.poll, POLL_S)]
        if stage.database:
            pollers.append(Poller(reader.look_at_activity, ACTIVITY_POLL_S))
        reader.begin()
        before = noise_snapshot(stage.cores.used)
        everybody = TreeWatch({"ours": lambda: [os.getpid(), *services.guard.child_pids()]})
        everybody.start()

        def started(at_ns: int) -> None:
            witness.begin(at_ns)
            watch.start()
            stage.start_events(at_ns, reads.events)
            for poller in pollers:
                poller.start()

        def running(message: dict[str, Any]) -> None:
            live(Live("load", message.get("rate_rps", 0.0), message.get("p99_s", 0.0), message.get("errors", 0)))
            stage.check(server)

        # a bystander's requests could not be told from the load's where the services' work is counted
        who = Bystander() if asks_for(gotcha, *COUNTED) else bystander_of(gotcha, condition)
        try:
            with beside(services.guard, job["url"], who, job["seed"]) as witness:
                measured = child.run(job, longest_s(condition), started, running)
        finally:
            problems = [poller.stop() for poller in pollers if poller.started]
            stage.stop_events()
        reads.bystander = witness.report(condition, measured.started_ns, measured.ended_ns, measured.generator.warmup_s)
        reads.processes = watch.stop()
        reads.cpu_series = watch.series
        reads.noise = noise_between(before, noise_snapshot(stage.cores.used), everybody.stop()["ours"].cpu_ns)
        wait_for_rows(server, measured.ended_ns)
        reader.end()
        for problem in problems:
            if problem is not None:
                raise ServerError(f"the services could not be watched: {problem}", "See postgres.log of the run.")
        return measured

    def _record(
        self, trial: TrialPlan, stage: Stage, started_at: str, measured: Measured, server: RunningServer,
        pids: tuple[int, ...], reader: Reader,
    ) -> TrialRecord:  # fmt: skip
        services, condition, cores, reads = self._services, stage.condition, stage.cores, reader.reads
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
            affinity=affinity, versions=services.versions,
            extra={**reads.bystander, **({"notes": reads.notes} if reads.notes else {})},
        )  # fmt: skip


def _portable(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command without this machine's paths, as a reader would type it."""
    return ("python", *command[1:])


def _save_samples(source: Path, path: Path) -> None:
    import numpy as np

    if source.exists():
        write_samples(path, np.load(source))


def _make(folder: Path) -> None:
    """The trial's folder in the results.  Raises StoreError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made: {error.strerror}", "Check the results folder.") from error


def keep_logs(work: Path, folder: Path) -> list[str]:
    """Copy the trial's logs beside its results, without passwords; returns what could not be kept.  A log is not worth a trial."""
    lost = []
    for log in sorted([*work.glob("*.log"), *work.glob("load/*.log")]):
        try:
            write_bytes(folder / log.name, redacted_bytes(log.read_bytes()))
        except (OSError, StoreError) as error:
            lost.append(f"{log.name} was not kept: {error}")
    return lost
