"""The commands that put load on targets: run, tour, compare."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lab.catalog import Catalog
from lab.cli.options import (
    DEFAULT_RESULTS,
    DEFAULT_SEED,
    EXIT_BROKEN,
    EXIT_INTERRUPTED,
    TOUR,
    Everything,
    Json,
    Names,
    Pairs,
    Part,
    Quiet,
    Results,
    Seed,
    Services,
    Topic,
    app,
    numbers_of,
    selected,
    words_of,
)
from lab.cli.output import out, say, show, told
from lab.locate import server_names
from lab.terminal import note, plain
from lab.words.errors import UsageError


@app.command()
def run(
    gotchas: Names = None,
    topic: Topic = "",
    part: Part = 0,
    everything: Everything = False,
    full: Annotated[bool, typer.Option("--full", help="All conditions, enough pairs for a firm verdict.")] = False,
    faults: Annotated[
        bool,
        typer.Option(
            "--faults", help="What each fix survives: services refuse and stall, processes die (part of --full)."
        ),
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Run under this many workers instead.")] = None,
    server: Annotated[str, typer.Option(help=f"One of {server_names()}.")] = "",
    loop: Annotated[str, typer.Option(help="uvloop, asyncio, rloop or zuvloop (Python 3.14).")] = "",
    http: Annotated[str, typer.Option(help="httptools, h11 or zttp.")] = "",
    pairs: Pairs = None,
    processes: Annotated[int, typer.Option(min=1, help="Generator processes that share the load.")] = 1,
    resume: Annotated[
        str,
        typer.Option(
            metavar="RUN", help="Go on with a run that was interrupted: an id, a prefix of it, or its folder."
        ),
    ] = "",
    seed: Seed = DEFAULT_SEED,
    services: Services = "embedded",
    results: Results = DEFAULT_RESULTS,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run gotchas: load, verdicts, charts, report.  `scenario` is the same."""
    from lab.commands.session import Request, configured_servers

    catalog = Catalog()
    if resume:
        if gotchas or topic or part or everything or full or faults or workers or server or loop or http or pairs:
            raise UsageError(
                "--resume, and gotchas or conditions besides",
                "What a run does is in its plan: give --resume RUN alone.",
            )
        _resume(resume, catalog, services, results, quiet, processes, as_json)
        return
    slugs = selected(catalog, gotchas or [], topic, part, everything)
    changed = configured_servers([workers] if workers else [], words_of(server), words_of(loop), words_of(http))
    _measure(
        Request(
            catalog,
            tuple(slugs),
            "full" if full else "faults" if faults else "quick",
            seed,
            pairs,
            changed,
            services,
            results,
            quiet,
            processes,
        ),
        as_json,
    )


app.command("scenario", hidden=True)(run)


@app.command()
def tour(
    seed: Seed = DEFAULT_SEED, services: Services = "embedded", results: Results = DEFAULT_RESULTS, quiet: Quiet = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """The four headline pairs, naive and correct alone, in about six minutes, then the report."""
    from lab.commands.session import Request

    _measure(Request(Catalog(), TOUR, "quick", seed, None, (), services, results, quiet, pairs_only=True), as_json)


def _measure(request: Any, as_json: bool) -> None:
    """Run, judge, report and say what came out; exits with the verdict's code."""
    from analysis.known import require_known
    from analysis.spoiled import spoiled
    from analysis.undecided import undecided
    from lab.commands.session import measure

    _finish(measure(request, spoiled, undecided, require_known), as_json)


def _resume(
    name: str, catalog: Catalog, services: str, results: Path, quiet: bool, processes: int, as_json: bool
) -> None:
    """Do the rest of an interrupted run, then as ``_measure``."""
    from analysis.spoiled import spoiled
    from analysis.undecided import undecided
    from lab.commands.session import resume
    from lab.store import find_run

    _finish(resume(find_run(results, name), catalog, services, quiet, processes, spoiled, undecided), as_json)


def _finish(session: Any, as_json: bool) -> None:
    """Judge, draw, say what came out; exits with the verdict's code."""
    from analysis.finish import draw_pages, judge_again

    finished = judge_again(session.folder, colored=not plain(sys.stdout))
    if not as_json:
        # At once: the pictures of a run of everything take half a minute.
        say(finished.table)
    broken, page = "", Path()
    try:
        page = draw_pages(session.folder)
    except Exception as error:  # the verdicts are there: a picture that cannot be drawn does not take them away
        broken = told(error)
    if as_json:
        out(finished.document)
    elif not broken:
        say(f"Report: {page}")
    if broken:
        note(f"error: the pages could not be drawn: {broken}")
        note(
            f"       `bench.py report {session.folder.name}` draws them again; everything measured is in {session.folder.path}"
        )
        raise typer.Exit(EXIT_BROKEN)
    _end(session, finished.exit_code, resumable=True)


def _end(session: Any, exit_code: int, resumable: bool = False) -> None:
    """Leave with the verdict's code, or say what is kept of a run that was interrupted."""
    if session.interrupted:
        note(f"interrupted: {session.done} of {session.total} trials are kept in {session.folder.path}")
        if resumable:
            note(f"       `bench.py run --resume {session.folder.name}` goes on with it.")
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(exit_code)


@app.command()
def compare(
    gotchas: Names = None,
    topic: Topic = "",
    part: Part = 0,
    everything: Everything = False,
    workers: Annotated[
        str,
        typer.Option(help="Numbers of workers, with commas; 1,2,4 by default, with --packages the condition's own."),
    ] = "",
    server: Annotated[str, typer.Option(help=f"{server_names()}; with commas.")] = "",
    loop: Annotated[str, typer.Option(help="uvloop, asyncio, rloop, zuvloop; with commas.")] = "",
    http: Annotated[str, typer.Option(help="httptools, h11, zttp; with commas.")] = "",
    packages: Annotated[
        str,
        typer.Option(
            help="Versions that the target runs with, with commas: fastapi==0.117.1,fastapi==0.118.0. A plus or a semicolon puts "
            "several packages into one: fastapi==0.117.1+starlette==0.48.0."
        ),
    ] = "",
    pairs: Pairs = None,
    seed: Seed = DEFAULT_SEED,
    services: Services = "embedded",
    results: Results = DEFAULT_RESULTS,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Do more workers, or other versions, fix it?  The headline condition in a grid of them, interleaved, and one word for each."""
    from analysis.finish import finish_comparison
    from analysis.spoiled import spoiled
    from lab.commands.session import Request, configured_servers, measure
    from lab.run.grid import parse_packages

    catalog = Catalog()
    slugs = selected(catalog, gotchas or [], topic, part, everything)
    pins = parse_packages(packages)
    if not pins:
        workers = workers or "1,2,4"
    grid = configured_servers(numbers_of(workers) if workers else [], words_of(server), words_of(loop), words_of(http))
    session = measure(
        Request(catalog, tuple(slugs), "quick", seed, pairs, grid, services, results, quiet, grid=True, packages=pins), spoiled
    )  # fmt: skip
    finished = finish_comparison(session.folder)
    show(finished, as_json)
    if not as_json:
        say(f"Report: {finished.report}")
    _end(session, finished.exit_code)
