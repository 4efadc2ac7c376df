"""One invocation of the lab from names to trials on disk: services up, plan registered, trials done, everything down."""

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Literal

from lab.catalog import Catalog
from lab.model import GotchaPlan, RunPlan, SecondLook, Server, TrialPlan
from lab.observe.machine import capture
from lab.run.grid import as_grid
from lab.run.pairs_only import pairs_only
from lab.run.plan import make_plan
from lab.run.runner import Executor, Spoiled, run_s, run_trials
from lab.run.second_look import Undecided, additions
from lab.run.trial import RealExecutor
from lab.selftest.ceiling import quick_ceiling
from lab.services.supervisor import MODES, Services
from lab.store import RunFolder, new_run, newest_selftest
from lab.target.servers import LOOPS, PARSERS, kind_of
from lab.terminal import Screen, duration, note
from lab.words.errors import StoreError, UsageError
from lab.words.record import Added, Environment


@dataclass(frozen=True)
class Request:
    """What the user asked for.  ``servers`` empty means each condition's own server; ``processes`` are those of the generator.

    ``grid`` runs the headline condition alone, naive and correct, under each of the servers and each set of ``packages`` (compare).
    ``pairs_only`` runs every condition with naive and correct alone (tour).
    """

    catalog: Catalog
    slugs: tuple[str, ...]
    mode: Literal["quick", "full", "faults"]
    seed: int
    pairs: int | None
    servers: tuple[Server, ...]
    services: str
    results: Path
    quiet: bool
    processes: int = 1
    grid: bool = False
    packages: tuple[Mapping[str, str], ...] = ()
    pairs_only: bool = False


@dataclass(frozen=True)
class Session:
    """What a run left: its folder, and how far it got."""

    folder: RunFolder
    done: int
    total: int
    failed: int
    interrupted: bool


def configured_servers(
    workers: Sequence[int], kinds: Sequence[str], loops: Sequence[str], parsers: Sequence[str] = ()
) -> tuple[Server, ...]:
    """The grid of server configurations that options ask for; empty where none was given.  Raises UsageError."""
    for name in kinds:
        kind_of(name)
    for what, asked, known in (("loop", loops, LOOPS), ("HTTP parser", parsers, PARSERS)):
        for name in asked:
            if name not in known:
                raise UsageError(f"there is no {what} {name!r}", f"There are {', '.join(known)}.")
    if not (workers or kinds or loops or parsers):
        return ()
    grid = product(kinds or ["uvicorn"], workers or [1], loops or ["uvloop"], parsers or [""])
    return tuple(
        Server(kind, count, loop, http or kind_of(kind).default_parser(loop)) for kind, count, loop, http in grid
    )


def _needs(plan: RunPlan) -> set[str]:
    """The services of the gotchas, and those of the conditions that are run."""
    besides = {one for trial in plan.trials for one in plan.gotcha(trial.gotcha).condition(trial.condition).services}
    return besides | {service for gotcha in plan.gotchas for service in gotcha.services}


def _environment(services: Services) -> Environment:
    """The environment with the generator's ceiling (gate G6): measured here, so that judging again needs nothing but the run."""
    found, ceiling = capture(services.versions), quick_ceiling(services.guard)
    return (
        found if ceiling is None else replace(found, limits={**found.limits, "generator_ceiling_rps": f"{ceiling:.0f}"})
    )


def look_again(
    plan: RunPlan, folder: RunFolder, executor: Executor, screen: Screen, spoiled: Spoiled,
    undecided: Callable[[RunFolder], Sequence[Undecided]], say: Callable[[str], None],
) -> int:  # fmt: skip
    """Add the pairs that the plan's rule allows, where claims are undecided after the first look.  Returns how many trials failed."""
    trials = folder.added  # of a look that was interrupted: what a look adds is decided once
    if not trials:
        chosen = additions(plan, undecided(folder)) if plan.second_look else []
        if not chosen:
            return 0
        trials = tuple(trial for one in chosen for trial in one.trials)
        folder.write_added(Added(trials, tuple(one.text for one in chosen)))
        for one in chosen:
            say(one.text)
    with screen.running():
        return run_trials(plan, folder, executor, screen.show, spoiled, trials)


def measure(
    request: Request, spoiled: Spoiled, undecided: Callable[[RunFolder], Sequence[Undecided]] = lambda folder: (),
    require: Callable[[Sequence[GotchaPlan]], None] = lambda plans: None,
) -> Session:  # fmt: skip
    """Register the plan, start the services, do the trials.  Ctrl-C ends it with what was measured so far.

    ``spoiled`` says why a pair must be done again, or nothing; ``undecided`` which conditions a quick run did not decide: it adds pairs
    to these, unless the user said how many there shall be.  ``require`` raises where a plan asks for what cannot be measured.  Raises
    UsageError, ServiceError, StoreError; nothing is written before the plan and the options are known to be sound.
    """
    if request.services not in MODES:
        raise UsageError(f"--services {request.services!r}", f"It is one of {', '.join(MODES)}.")
    gotchas = request.catalog.plans(request.slugs, request.servers)
    if request.grid:
        gotchas = tuple(
            as_grid(base, spread, request.packages)
            for base, spread in zip(request.catalog.plans(request.slugs), gotchas, strict=True)
        )
    if request.pairs_only:
        gotchas = tuple(map(pairs_only, gotchas))
    require(gotchas)
    label = request.slugs[0].split("/")[1] if len(request.slugs) == 1 else f"{len(request.slugs)}-gotchas"
    folder = new_run(request.results, label)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    plan = make_plan(folder.name, created, gotchas, request.mode, request.seed, request.pairs)
    if request.mode == "quick" and request.pairs is None and not request.grid:
        plan = replace(plan, second_look=SecondLook())
    folder.write_plan(plan)
    folder.write_yardstick(newest_selftest(request.results))
    return _carry_out(plan, folder, request.services, request.processes, request.quiet, spoiled, undecided)


def resume(
    run: RunFolder, catalog: Catalog, services: str, quiet: bool, processes: int, spoiled: Spoiled,
    undecided: Callable[[RunFolder], Sequence[Undecided]],
) -> Session:  # fmt: skip
    """Do what an interrupted run has not done yet, by its own plan; a pair that was begun is done again, with all its arms.

    Raises UsageError where the two halves would not be one run: a gotcha's files, the machine or a version have changed, or the run
    still goes on.
    """
    if services not in MODES:
        raise UsageError(f"--services {services!r}", f"It is one of {', '.join(MODES)}.")
    plan = run.plan
    waiting = {
        t.gotcha for t in (*plan.trials, *run.added) if not run.trial(t.gotcha, t.condition, t.pair, t.variant).exists
    }
    today = {gotcha["slug"]: gotcha["content_hash"] for gotcha in catalog.gotchas}
    for gotcha in plan.gotchas:
        if gotcha.slug in waiting and today.get(gotcha.slug) != gotcha.content_hash:
            raise UsageError(
                f"{run.name} cannot go on: the files of {gotcha.slug} have changed since it began",
                f"What is there is judged by `bench.py verdict {run.name}`; `bench.py run` begins anew.",
            )
    every = (*plan.trials, *run.added)
    if not waiting and (run.added or not plan.second_look or not additions(plan, undecided(run))):
        return Session(run, len(every), len(every), 0, False)
    return _carry_out(plan, run, services, processes, quiet, spoiled, undecided)


def _check_surroundings(folder: RunFolder, now: Environment) -> None:
    """Raises UsageError where a run began on another machine or with other versions than ``now``."""
    before = folder.environment
    if before.surroundings == now.surroundings:
        return
    told = [f"{name}: {was} then, {has} now" for name, was, has in (
        ("processor", before.cpu_model, now.cpu_model), ("cores", before.cores, now.cores),
        ("platform", before.platform, now.platform), ("Python", before.python, now.python),
        *((name, before.packages.get(name, "none"), now.packages.get(name, "none")) for name in {**before.packages, **now.packages}),
        *((name, before.services.get(name, "none"), now.services.get(name, "none")) for name in {**before.services, **now.services}),
    ) if was != has]  # fmt: skip
    raise UsageError(
        f"{folder.name} cannot go on: {'; '.join(told)}",
        f"What is there is judged by `bench.py verdict {folder.name}`; `bench.py run` begins anew.",
    )


@contextmanager
def _alone_in(folder: RunFolder) -> Iterator[None]:
    """Hold the run's plan while its trials are done: the lock ends with the process, however that ends.  Raises UsageError."""
    try:
        plan = (folder.path / "plan.json").open("rb")
    except OSError as error:
        raise StoreError(
            f"{folder.path} cannot be read: {error.strerror or error}", "Check the results folder."
        ) from error
    with plan:
        try:
            fcntl.flock(plan, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"{folder.name} is still running", "Wait for its end, or stop it with Ctrl-C.") from error
        yield


def under_load_s(folder: RunFolder, trials: Sequence[TrialPlan], since_ns: int) -> float:
    """How many seconds since then some load was on (warm-up included), of the last attempt of each trial; the rest is starting and stopping."""
    stretches = []
    for t in trials:
        trial = folder.trial(t.gotcha, t.condition, t.pair, t.variant)
        if trial.exists and (record := trial.record).load_started_ns >= since_ns:
            warmup_s = (record.generator.warmup_s if record.generator else None) or 0.0
            stretches.append((record.load_started_ns - int(warmup_s * 1e9), record.load_ended_ns))
    total, until = 0, since_ns
    for start, end in sorted(stretches):  # the arms of a duet share theirs
        total += max(0, end - max(start, until))
        until = max(until, end)
    return total / 1e9


def _carry_out(
    plan: RunPlan, folder: RunFolder, mode: str, processes: int, quiet: bool, spoiled: Spoiled,
    undecided: Callable[[RunFolder], Sequence[Undecided]],
) -> Session:  # fmt: skip
    """Start the services and do the trials of a registered plan that are not done yet."""
    screen = Screen(quiet)
    say: Callable[[str], None] = (lambda text: None) if quiet else note
    failed, interrupted = 0, False
    gotchas_text = f"{len(plan.gotchas)} gotcha{'s' if len(plan.gotchas) > 1 else ''}"
    left, there = run_s(plan, folder), sum(len(folder.trials(gotcha.slug)) for gotcha in plan.gotchas)
    say(
        f"{gotchas_text}, {len(plan.trials)} trials{f', {there} done' if there else ''}, about {duration(left)}, {plan.mode}, "
        f"seed {plan.seed}: {folder.path}"
    )
    began_ns = time.monotonic_ns()
    try:
        with _alone_in(folder), Services(_needs(plan), mode=mode, log_folder=folder.path / "services") as services:
            services.guard.sweep(folder.path)
            environment = _environment(services)
            if (folder.path / "environment.json").is_file():
                _check_surroundings(folder, environment)
            else:
                folder.write_environment(environment)
            executor = RealExecutor(services, processes=processes)
            with screen.running():
                failed = run_trials(plan, folder, executor, screen.show, spoiled)
            failed += look_again(plan, folder, executor, screen, spoiled, undecided, say)
    except KeyboardInterrupt:
        interrupted = True
    every = (*plan.trials, *folder.added)
    done = sum(folder.trial(t.gotcha, t.condition, t.pair, t.variant).exists for t in every)
    took_s = time.monotonic() - began_ns / 1e9
    say(f"{done} trials in {duration(took_s)}, {under_load_s(folder, every, began_ns) / took_s:.0%} of it under load")
    return Session(folder, done, len(every), failed, interrupted)
