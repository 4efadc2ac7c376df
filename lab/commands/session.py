"""One invocation of the lab from names to trials on disk: services up, plan registered, trials done, everything down."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Literal

from lab.catalog import Catalog
from lab.model import GotchaPlan, RunPlan, SecondLook, Server
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
from lab.words.errors import UsageError
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
    screen = Screen(request.quiet)
    say: Callable[[str], None] = (lambda text: None) if request.quiet else note
    failed, interrupted = 0, False
    gotchas_text = f"{len(gotchas)} gotcha{'s' if len(gotchas) > 1 else ''}"
    say(
        f"{gotchas_text}, {len(plan.trials)} trials, about {duration(run_s(plan))}, {request.mode}, seed {request.seed}: {folder.path}"
    )
    started = datetime.now(UTC)
    try:
        with Services(_needs(plan), mode=request.services, log_folder=folder.path / "services") as services:
            services.guard.sweep(folder.path)
            folder.write_environment(_environment(services))
            executor = RealExecutor(services, processes=request.processes)
            with screen.running():
                failed = run_trials(plan, folder, executor, screen.show, spoiled)
            failed += look_again(plan, folder, executor, screen, spoiled, undecided, say)
    except KeyboardInterrupt:
        interrupted = True
    every = (*plan.trials, *folder.added)
    done = sum(folder.trial(t.gotcha, t.condition, t.pair, t.variant).exists for t in every)
    say(f"{done} trials in {duration((datetime.now(UTC) - started).total_seconds())}")
    return Session(folder, done, len(every), failed, interrupted)
