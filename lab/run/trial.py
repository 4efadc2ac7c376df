"""One trial, really performed: fresh data, fresh server, probes, the load, the counters, the final reads.

The Locust child imports while the database is copied and the server starts.  What is read, and in which order, is in ``lab.run.reading``.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from lab.generator.engine import LoadChild, Measured, address_in_job, job_of, load_child
from lab.generator.sharing import processes_for
from lab.locate import scenario_file
from lab.model import Condition, GotchaPlan, TrialPlan
from lab.observe.bystander import Bystander, beside, bystander_of
from lab.observe.cores import Cores, divide, on, place, siblings, usable
from lab.observe.machine import noise_between, noise_snapshot
from lab.observe.parallel import cores_missing
from lab.observe.probes import run_probe
from lab.observe.trees import ACTIVITY_POLL_S, POLL_S, Poller, TreeWatch, descendants
from lab.run.arm import Arm, keep_logs, make_folder, portable, save_samples
from lab.run.reading import COUNTED, Reader, asks_for
from lab.run.runner import Live
from lab.run.stage import staged
from lab.services.kind import with_needed
from lab.services.supervisor import Services
from lab.store import ROOT, TrialFolder, write_server_rows
from lab.target.address import Address
from lab.target.protocol import Target
from lab.target.remote import Remote, check_possible
from lab.target.running import http_parser, serving
from lab.words.errors import LoadError, NotHereError, ServerError, ServiceError, StoreError, UsageError
from lab.words.lengths import longest_s
from lab.words.record import TrialRecord

SETTLE_S = 0.6


class RealExecutor:
    """Performs trials on real servers and services.  ``observe`` False leaves the wrapper out (for measuring its own cost)."""

    def __init__(
        self, services: Services, *, observe: bool = True, processes: int = 1, remote: Mapping[str, Address] | None = None
    ) -> None:  # fmt: skip
        """``remote`` says where variants are that run already; of those nothing is started."""
        self._services = services
        self._remote = remote or {}
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
        """See ``lab.run.runner.Executor``.  Raises LabError where the trial failed: a ServiceError where a service had died in it."""
        with self._attended(gotcha):
            return self._perform(trial, gotcha, condition, folder, live)

    @contextmanager
    def _attended(self, gotcha: GotchaPlan) -> Iterator[None]:
        """The services are up when the block begins, and what goes wrong in it while one of them is away is not the target's doing."""
        if self._services.revive():
            self._templates.clear()
        try:
            yield
        except (StoreError, UsageError, NotHereError):
            raise
        except Exception as error:
            self._blame_services(gotcha, error)
            raise
        self._blame_services(gotcha, None)

    def _blame_services(self, gotcha: GotchaPlan, error: Exception | None) -> None:
        """What went wrong while a service was away is not the target's doing.  Raises ServiceError."""
        problem = self._services.problem(gotcha.services)
        if problem:
            hint = f"Seen first: {error}" if error else "The service is started again for the next trial."
            raise ServiceError(f"{problem}; what the target did without it says nothing", hint) from error

    def _perform(
        self, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, live: Callable[[Live], None]
    ) -> TrialRecord:  # fmt: skip
        processes = processes_for(condition.load, self._processes)
        cores = divide(usable(), condition.cores_needed, processes, siblings(usable()))
        with ExitStack() as stack:
            stack.enter_context(on(cores.generator))
            self._place_services(cores)
            arm = self._stage(stack, trial, gotcha, condition, folder, cores)
            child = stack.enter_context(load_child(self._services.guard, arm.work / "load", arm.stage.env, processes))
            self._serve(stack, arm, gotcha)
            job = job_of(scenario_file(gotcha.slug), condition, trial.variant, arm.address, trial.seed, processes)
            measured = self._load(gotcha, [arm], child, condition, job, live)[trial.variant]
            return self._finish(arm, gotcha, measured)

    def perform_duet(
        self, trials: Sequence[TrialPlan], gotcha: GotchaPlan, condition: Condition, folders: Sequence[TrialFolder],
        live: Callable[[Live], None],
    ) -> list[TrialRecord]:  # fmt: skip
        """All arms of a pair at once: see ``lab.run.runner.Executor``.  Raises LabError where it failed; no arm has a result then."""
        cores = divide(usable(), condition.cores_needed, 1, siblings(usable()))
        with self._attended(gotcha), ExitStack() as stack:
            stack.enter_context(on(cores.generator))
            self._place_services(cores)
            arms = [
                self._stage(stack, trial, gotcha, condition, folder, cores, lane)
                for lane, (trial, folder) in enumerate(zip(trials, folders, strict=True))
            ]
            # No addresses for the load: the arms have databases of their own, and a user class could mean only one of them.
            child = stack.enter_context(load_child(self._services.guard, arms[0].work / "load", {}, 1))
            for arm in arms:
                self._serve(stack, arm, gotcha)
            job = job_of(scenario_file(gotcha.slug), condition, "", arms[0].address, trials[0].seed)
            job["arms"] = [{"variant": arm.trial.variant, **address_in_job(arm.address)} for arm in arms]
            measured = self._load(gotcha, arms, child, condition, job, live)
            return [self._finish(arm, gotcha, measured[arm.trial.variant]) for arm in arms]

    def _stage(
        self, stack: ExitStack, trial: TrialPlan, gotcha: GotchaPlan, condition: Condition, folder: TrialFolder, cores: Cores,
        lane: int | None = None,
    ) -> Arm:  # fmt: skip
        """What stands around the target of one arm, its database a fresh copy.  ``lane``: the arm's number in a duet."""
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        make_folder(folder.path)
        work = stack.enter_context(self._services.guard.folder("trial-"))
        stack.callback(keep_logs, work, folder.path)
        # Locust needs the services' addresses too: a scenario may look at the truth in the database.
        database = stack.enter_context(self.database(gotcha, condition))
        with on(cores.target):
            stage = stack.enter_context(staged(self._services, gotcha, condition, trial, database, work, cores, lane))
        return Arm(
            trial, folder, work, stage, Reader(self._services, gotcha, database, lane, condition.services), started_at
        )

    def _serve(self, stack: ExitStack, arm: Arm, gotcha: GotchaPlan) -> None:
        """Start the arm's server and ask the first probes."""
        arm.server = self._target(stack, arm)
        arm.stage.attach(arm.server)
        arm.reader.reads.probes += [
            run_probe(arm.server.address, probe, "before") for probe in gotcha.probes if probe.before
        ]
        arm.server.settle(SETTLE_S)

    def _target(self, stack: ExitStack, arm: Arm) -> Target:
        """The arm's server, started; or the one that runs already.  Raises NotHereError where that one cannot do what is asked."""
        stage, remote = arm.stage, self._remote.get(arm.trial.variant)
        if remote is not None:
            check_possible(stage.condition)
            return Remote(remote)
        with on(stage.cores.target):
            return stack.enter_context(
                serving(
                    self._services.guard, stage.condition.server, stage.app, arm.work, stage.target_env,
                    python=stage.python, observe=self._observe,
                )
            )  # fmt: skip

    def _finish(self, arm: Arm, gotcha: GotchaPlan, measured: Measured) -> TrialRecord:
        """What is read after the load; the server is stopped, everything is kept."""
        server, reader, folder = arm.server, arm.reader, arm.folder
        save_samples(measured.samples, folder.path / "samples.parquet")
        if measured.error:
            raise LoadError(f"the user class broke: {measured.error}", f"Mend scenarios/{gotcha.slug}.py.")
        arm.stage.require_events(reader.reads.events)
        reader.after(server, arm.trial.variant)
        pids = server.worker_pids()
        arm.signs = arm.stage.signs()  # before the server logs that it is stopped
        rows = server.stop()
        if rows:
            write_server_rows(folder.path / "server.parquet", rows)
        reader.reads.notes += keep_logs(arm.work, folder.path)
        return self._record(arm, measured, pids)

    def _place_services(self, cores: Cores) -> None:
        """The services outlive a trial, and the one before may have divided the cores in another way."""
        for service in self._services.up.values():
            for root in service.pids():
                place(descendants(root), cores.target or usable())

    @contextmanager
    def database(self, gotcha: GotchaPlan, condition: Condition) -> Iterator[str]:
        """A fresh copy of the gotcha's dataset, dropped at the end; empty name where no PostgreSQL is used."""
        postgres = self._services.postgres
        if postgres is None or "postgres" not in with_needed(gotcha.services_of(condition)):
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

    def _roots(self, gotcha: GotchaPlan, arms: Sequence[Arm], child: LoadChild) -> dict[str, Callable[[], list[int]]]:
        """The process trees to watch: of the services only those that the gotcha uses, and only where they are ours.

        A service of the user's has no processes here, and then no CPU time: that is refused, not 0.  In a duet the services work for all
        arms, so there only the servers are watched.
        """
        services = self._services
        roots: dict[str, Callable[[], list[int]]] = {
            arm.server_tree: partial(_server_of, arm) for arm in arms if arm.server.roots()
        }
        roots["generator"] = lambda: child.pids
        if len(arms) > 1:
            return roots
        (arm,) = arms
        for name in gotcha.services_of(arm.stage.condition):
            if name in services.up and services.up[name].pids():
                roots[name] = services.up[name].pids
        if arm.stage.celery_pids:
            roots["celery"] = lambda: list(arm.stage.celery_pids)
        return roots

    def _load(
        self, gotcha: GotchaPlan, arms: Sequence[Arm], child: LoadChild, condition: Condition, job: Mapping[str, Any],
        live: Callable[[Live], None],
    ) -> dict[str, Measured]:  # fmt: skip
        """Carry the load, of all arms in a duet, and read what was counted meanwhile."""
        services, used = self._services, arms[0].stage.cores.used
        exclude = {"postgres": services.postgres.own_backends} if services.postgres else {}
        watch = TreeWatch(self._roots(gotcha, arms, child), exclude)
        pollers = [Poller(watch.poll, POLL_S)]
        for arm in arms:
            if arm.stage.database:
                pollers.append(Poller(arm.reader.look_at_activity, ACTIVITY_POLL_S))
            arm.reader.begin()
        missing = cores_missing(used) if condition.cores > 1 else None
        before = noise_snapshot(used)
        everybody = TreeWatch({"ours": lambda: [os.getpid(), *services.guard.child_pids()]})
        everybody.start()

        def started(at_ns: int) -> None:
            witness.begin(at_ns)
            watch.start()
            for arm in arms:
                arm.stage.start_events(at_ns, arm.reader.reads.events)
            for poller in pollers:
                poller.start()

        def running(message: dict[str, Any]) -> None:
            live(Live("load", message.get("rate_rps", 0.0), message.get("p99_s", 0.0), message.get("errors", 0)))
            for arm in arms:
                arm.stage.check(arm.server)

        # A bystander's requests could not be told from the load's where the services' work is counted; in a duet it would be a third arm.
        alone = len(arms) == 1 and not asks_for(gotcha, *COUNTED)
        who = bystander_of(gotcha, condition) if alone else Bystander()
        try:
            with beside(services.guard, arms[0].address, who, job["seed"]) as witness:
                measured = child.run_all(job, longest_s(condition), started, running)
        finally:
            problems = [poller.stop() for poller in pollers if poller.started]
            for arm in arms:
                arm.stage.stop_events()
        processes = watch.stop()
        noise = noise_between(before, noise_snapshot(used), everybody.stop()["ours"].cpu_ns)
        if missing is not None:
            noise["cores_missing_share"] = max(missing, cores_missing(used))
        for arm in arms:
            own, reads = measured[arm.trial.variant], arm.reader.reads
            reads.bystander = witness.report(condition, own.started_ns, own.ended_ns, own.generator.warmup_s)
            reads.processes, reads.cpu_series = arm.part_of(processes, watch.series)
            reads.noise = noise
            arm.server.wait_for_rows(own.ended_ns)
            arm.reader.end()
        for problem in problems:
            if problem is not None:
                raise ServerError(f"the services could not be watched: {problem}", "See postgres.log of the run.")
        return measured

    def _record(self, arm: Arm, measured: Measured, pids: tuple[int, ...]) -> TrialRecord:
        trial, stage, server, reads = arm.trial, arm.stage, arm.server, arm.reader.reads
        condition, cores = stage.condition, stage.cores
        affinity = {"generator": cores.generator, "target": cores.target} if cores.target else {}
        return TrialRecord(
            trial.gotcha, trial.condition, trial.pair, trial.variant, trial.seed, status="ok", started_at=arm.started_at,
            load_started_ns=measured.started_ns, load_ended_ns=measured.ended_ns, request_names=measured.request_names,
            command=portable(server.command), server_pids=pids, loop=condition.server.loop, http=http_parser(condition.server),
            observed=measured.observed, final_reads=reads.final, probes=tuple(reads.probes), statements=reads.statements,
            tables=reads.tables, activity=reads.activity, activity_series=tuple(reads.series), sessions_opened=reads.sessions,
            services=reads.services, redis_commands=reads.redis_commands, redis_memory_bytes=reads.redis_memory, processes=reads.processes,
            cpu_series=tuple(reads.cpu_series),
            plans=reads.plans, events=tuple(reads.events), generator=measured.generator, noise=reads.noise,
            affinity=affinity, versions=self._services.versions, extra={**reads.bystander, **arm.reader.extra, **arm.signs},
        )  # fmt: skip


def _server_of(arm: Arm) -> list[int]:
    return arm.stage.roots(arm.server)
