"""The command line of the lab: parse, call ``lab`` and ``analysis``, print, exit code."""

import json
import math
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lab.catalog import Catalog
from lab.locate import server_names
from lab.redact import redacted
from lab.terminal import complain, note, plain
from lab.words.errors import LabError, UsageError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Experiments, with intervals, for the gotchas every FastAPI engineer argues about.",
    epilog="Exit codes: 0 every claim reproduced, 1 a claim was not, 2 inconclusive or invalid, "
    "64 bad arguments or a broken gotcha, 70 the lab itself broke, 130 interrupted.",
)  # fmt: skip

TOUR = (
    "event_loop/blocking_call_in_async_route", "rate_limiting/in_process_limiter",
    "api_design/offset_pagination", "caching/cache_without_lock",
)  # fmt: skip
EXIT_BROKEN = 70
EXIT_INTERRUPTED = 130
TRACEBACK = "LAB_TRACEBACK"

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, all else on standard error.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Results = Annotated[Path, typer.Option("--results", help="The folder that holds the runs.")]
Services = Annotated[str, typer.Option("--services", help="embedded (from wheels) or system (from the PATH).")]
Seed = Annotated[int, typer.Option(help="Seed of arrivals, parameters and order.")]
Pairs = Annotated[int | None, typer.Option(min=1, help="Pairs per condition, instead of the mode's own number.")]
Topic = Annotated[str, typer.Option(help="All gotchas of one topic.")]
Part = Annotated[int, typer.Option(min=0, max=18, help="All gotchas of one part of the series, 1 to 18.")]
DEFAULT_RESULTS = Path(__file__).resolve().parent / "results"
DEFAULT_SEED = 20261123


def out(document: Any) -> None:
    """One JSON document on standard output.  JSON has no infinity: a request that was never answered reads "never"."""
    sys.stdout.write(json.dumps(_plain_json(document), indent=1, default=str, allow_nan=False) + "\n")


def _plain_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_json(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "never" if value > 0 else "-never"
    return value


def say(text: str) -> None:
    """A line of the result."""
    sys.stdout.write(text + "\n")


def _selected(catalog: Catalog, gotchas: list[str], topic: str, part: int, everything: bool) -> list[str]:
    if gotchas and (topic or part or everything):
        raise UsageError("a name, and --topic, --part or --all besides", "Give one or the other.")
    if gotchas:
        return list(dict.fromkeys(catalog.resolve(name) for name in gotchas))
    if topic or part or everything:
        found = catalog.select(topic=topic, part=part)
        left_out = [slug for slug in catalog.broken if not topic or slug.startswith(found[0].split("/")[0] + "/")]
        if (
            left_out and not part
        ):  # never in silence: the run would say "all" of some.  Which part a broken one has nobody knows.
            raise UsageError(f"{left_out[0]}: {catalog.broken[left_out[0]]}",
                             "Mend it, or name the gotchas that are to run; `bench.py list` shows which are broken.")  # fmt: skip
        return found
    raise UsageError("which gotcha?", "Name one, or give --topic, --part or --all; `bench.py list` shows them.")


@app.command("list")
def list_gotchas(
    words: Annotated[
        list[str] | None,
        typer.Argument(help="Only those with all of these words in title, symptoms, error texts or ids."),
    ] = None,
    topic: Topic = "",
    part: Part = 0,
    catalogue: Annotated[
        bool, typer.Option("--catalogue", help="Everything that people say, measured here or not, instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What there is, what it claims, how long it takes; searched by symptom or error text: `list stampede`, `list QueuePool limit`."""
    from lab.catalog.listing import rows, searched, table

    catalog = Catalog()
    if catalogue:
        _list_catalogue(catalog, words or [], part, as_json)
        return
    wanted = set(catalog.select(topic=topic, part=part)) if catalog.gotchas else set()
    found = searched([row for row in rows(catalog.gotchas) if row["gotcha"] in wanted], words or [])
    if words and not found and not as_json:
        raise UsageError(
            f"no gotcha speaks of {' '.join(words)!r}", "Fewer words find more; `bench.py list` shows all."
        )
    if as_json:
        out({"format_version": 1, "gotchas": found, "broken": catalog.broken})
        return
    say(table(found))
    for slug, error in catalog.broken.items():
        note(f"broken: {slug}: {error}")


def _list_catalogue(catalog: Catalog, words: list[str], part: int, as_json: bool) -> None:
    from lab.catalog import known

    found = known.searched([row for row in known.rows(catalog.gotchas) if part in (0, row["part"])], words)
    if as_json:
        out({"format_version": 1, "rows": found})
    else:
        say(known.table(found))


@app.command()
def run(
    gotchas: Annotated[
        list[str] | None, typer.Argument(help="Names, with dashes or underscores, or unique prefixes.")
    ] = None,
    topic: Topic = "",
    part: Part = 0,
    everything: Annotated[bool, typer.Option("--all", help="Every gotcha.")] = False,
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
    seed: Seed = DEFAULT_SEED,
    services: Services = "embedded",
    results: Results = DEFAULT_RESULTS,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run gotchas: load, verdicts, charts, report.  `scenario` is the same."""
    from lab.commands.session import Request, configured_servers

    catalog = Catalog()
    slugs = _selected(catalog, gotchas or [], topic, part, everything)
    changed = configured_servers([workers] if workers else [], _words(server), _words(loop), _words(http))
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
    """The four headline pairs in about four minutes, then the report."""
    from lab.commands.session import Request

    _measure(Request(Catalog(), TOUR, "quick", seed, None, (), services, results, quiet), as_json)


def _measure(request: Any, as_json: bool) -> None:
    """Run, judge, report and say what came out; exits with the verdict's code."""
    from analysis.finish import draw_pages, judge_again
    from analysis.known import require_known
    from analysis.spoiled import spoiled
    from analysis.undecided import undecided
    from lab.commands.session import measure

    session = measure(request, spoiled, undecided, require_known)
    finished = judge_again(session.folder, colored=not plain(sys.stdout))
    if not as_json:
        # At once: the pictures of a run of everything take half a minute.
        say(finished.table)
    broken, page = "", Path()
    try:
        page = draw_pages(session.folder)
    except Exception as error:  # the verdicts are there: a picture that cannot be drawn does not take them away
        broken = _told(error)
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
    if session.interrupted:
        note(f"interrupted: {session.done} of {session.total} trials are kept in {session.folder.path}")
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(finished.exit_code)


@app.command()
def compare(
    gotchas: Annotated[
        list[str] | None, typer.Argument(help="Names, with dashes or underscores, or unique prefixes.")
    ] = None,
    topic: Topic = "",
    part: Part = 0,
    everything: Annotated[bool, typer.Option("--all", help="Every gotcha.")] = False,
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
    slugs = _selected(catalog, gotchas or [], topic, part, everything)
    pins = parse_packages(packages)
    if not pins:
        workers = workers or "1,2,4"
    grid = configured_servers(_numbers(workers) if workers else [], _words(server), _words(loop), _words(http))
    session = measure(
        Request(catalog, tuple(slugs), "quick", seed, pairs, grid, services, results, quiet, grid=True, packages=pins), spoiled
    )  # fmt: skip
    finished = finish_comparison(session.folder)
    if as_json:
        out(finished.document)
    else:
        say(finished.table)
        say(f"Report: {finished.report}")
    if session.interrupted:
        note(f"interrupted: {session.done} of {session.total} trials are kept in {session.folder.path}")
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(finished.exit_code)


def _words(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def _numbers(text: str) -> list[int]:
    numbers = [int(one) if one.isdigit() else 0 for one in _words(text)]
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{text!r} is not a list of worker counts", "For example `--workers 1,2,4`.")
    return numbers


@app.command()
def verdict(
    run: Annotated[str, typer.Argument(help="A run's id, a prefix of it, or its folder; the newest by default.")] = "",
    details: Annotated[
        bool, typer.Option("--details", help="Every check beside its prediction, not only those that differ.")
    ] = False,
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Judge a stored run again, without load."""
    from analysis.finish import judge_again
    from lab.store import find_run

    finished = judge_again(find_run(results, run), colored=not plain(sys.stdout), details=details)
    if as_json:
        out(finished.document)
    else:
        say(finished.table)
    raise typer.Exit(finished.exit_code)


@app.command()
def diff(
    run_a: Annotated[str, typer.Argument(help="The run before: its id, a prefix of it, or its folder.")],
    run_b: Annotated[str, typer.Argument(help="The run after; the newest by default.")] = "",
    fail_on: Annotated[
        str,
        typer.Option(
            help="verdict (one got worse), figure (one moved beyond the spread between runs, over all rows), environment; with commas. "
            "Exit code 1 then, and 2 where figures are asked for and these runs cannot tell."
        ),
    ] = "",
    markdown: Annotated[Path | None, typer.Option(help="Write a comment for a pull request.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML for a CI server.")] = None,
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Compare two runs claim by claim: an upgrade, another machine, a fix.

    What varies needs three stored runs of one of the two: `run` the same with the same seed again. Versions are best compared inside
    one run: `compare --packages`.
    """
    from analysis import exports
    from analysis.diff import compare_runs, document
    from analysis.differences import FAIL_ON
    from lab.store import all_runs, find_run, write_bytes

    gate = _words(fail_on)
    if unknown := [one for one in gate if one not in FAIL_ON]:
        raise UsageError(f"--fail-on {unknown[0]}", f"Choose from {', '.join(FAIL_ON)}.")
    a, b = find_run(results, run_a), find_run(results, run_b)
    folders = {results.resolve(), a.path.resolve().parent, b.path.resolve().parent}
    found = compare_runs(a, b, [run for folder in sorted(folders) for run in all_runs(folder)])
    if markdown:
        write_bytes(markdown, exports.markdown(found, gate).encode())
    if junit:
        write_bytes(junit, exports.junit(found, gate))
    if as_json:
        out(document(found))
    else:
        say(exports.table(found))
    raise typer.Exit(found.exit_code(gate))


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="A run's id, a prefix of it, or its folder; the newest by default.")] = "",
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Rebuild the pages from stored data alone."""
    from analysis.finish import finish
    from lab.store import find_run

    finished = finish(find_run(results, run))
    if as_json:
        out({"format_version": 1, "run": finished.run, "report": str(finished.report)})
    else:
        say(str(finished.report))
    if show:
        typer.launch(finished.report.as_uri())


@app.command()
def publish(
    run: Annotated[str, typer.Argument(help="A run's id, a prefix of it, or its folder; the newest by default.")] = "",
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Make a run the published one: its plan, verdicts and report in results/published, the matrix in the README."""
    from analysis.finish import finish
    from analysis.publish import publish as publish_run
    from lab.store import find_run

    found = find_run(results, run)
    finish(found)
    where = publish_run(found, DEFAULT_RESULTS, DEFAULT_RESULTS.parent / "README.md", TOUR)
    if as_json:
        out({"format_version": 1, "run": found.name, "published": str(where)})
    else:
        say(str(where))


@app.command()
def serve(
    gotcha: Annotated[str, typer.Argument()],
    variant: Annotated[str, typer.Argument()] = "naive",
    port: Annotated[int, typer.Option(help="0 chooses a free one.")] = 8000,
    condition: Annotated[str, typer.Option(help="The condition whose server and surroundings are used.")] = "",
    services: Services = "embedded",
    as_json: Json = False,
) -> None:
    """Just the target and its services, until Ctrl-C: for curl, a debugger, or Locust's web page."""
    from lab.commands.serve import serve_until_interrupted

    catalog = Catalog()
    (plan,) = catalog.plans([catalog.resolve(gotcha)])
    serve_until_interrupted(plan, variant, port, condition, services, as_json)


@app.command("services")
def services_command(services: Services = "embedded", as_json: Json = False) -> None:
    """PostgreSQL and Redis alone, until Ctrl-C."""
    from lab.commands.serve import services_until_interrupted

    services_until_interrupted(services, as_json)


@app.command()
def doctor(services: Services = "embedded", as_json: Json = False) -> None:
    """What this machine is and can see: cores, limits, services, versions, noise, generator."""
    from lab.commands.doctor import examine, lines

    found = examine(services)
    if as_json:
        out(found)
    else:
        say("\n".join(lines(found)))
    raise typer.Exit(0 if found["ok"] else EXIT_BROKEN)


@app.command()
def selftest(
    full: Annotated[bool, typer.Option("--full", help="More pairs and longer queues: about ten minutes.")] = False,
    seed: Seed = DEFAULT_SEED, results: Results = DEFAULT_RESULTS, quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """How well the lab sees on this machine: false alarms, planted defects and faults, queueing theory, the generator's ceiling."""
    from analysis import selftest as analysis
    from lab.selftest.run import perform
    from lab.store import write_bytes

    folder, rates = perform(results, full, seed, quiet)
    found = analysis.document(folder, rates, results)
    write_bytes(folder.path / "selftest.json", json.dumps(found, indent=1).encode())
    if as_json:
        out(found)
    else:
        say("\n".join(found["lines"]))
    raise typer.Exit(0 if found["ok"] else 2)


@app.command()
def new(name: Annotated[str, typer.Argument(metavar="TOPIC/GOTCHA")], as_json: Json = False) -> None:
    """Scaffold a gotcha: a pair and a scenario that already run."""
    from lab.catalog.scaffold import scaffold

    made = scaffold(name)
    if as_json:
        out({"format_version": 1, "files": made})
    else:
        say("\n".join([*made, f"Next: edit them, then `uv run bench.py run {name}`."]))


def _clean(text: str) -> str:
    """The text without passwords: those that the lab knows, and whatever stands in an address."""
    from lab.target.interpreters import without_passwords

    return without_passwords(redacted(text))


def _told(error: BaseException) -> str:
    """An error that nobody foresaw in one line, without passwords: what, and where in the lab."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if ".venv" not in frame.filename]
    where = f" ({Path(frames[-1].filename).name} line {frames[-1].lineno})" if frames else ""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return _clean(text) + where


def _end_in_order() -> None:
    """What a service manager, a CI server or a closed terminal sends is Ctrl-C: a server of the user's is left as it was.

    A signal that is ignored already (nohup) stays so.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def main() -> None:
    """Run the command; every error is one line and a next step."""
    _end_in_order()
    try:
        code = app(standalone_mode=False)
        sys.exit(code or 0)
    except LabError as error:
        complain(type(error)(_clean(str(error)), _clean(error.hint)))
        sys.exit(error.exit_code)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        note("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except typer.TyperException as error:
        text = error.format_message() if hasattr(error, "format_message") else str(error)
        complain(UsageError(text, "`bench.py --help` shows the commands, `bench.py COMMAND --help` its options."))
        sys.exit(64)
    except BrokenPipeError:  # `bench.py list | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        note(f"error: the lab itself broke: {_told(error)}")
        note(
            f"       What was measured is kept (`bench.py verdict` judges it); {TRACEBACK}=1 shows the whole traceback."
        )
        if os.environ.get(TRACEBACK):
            note(_clean(traceback.format_exc()))
        sys.exit(EXIT_BROKEN)


if __name__ == "__main__":
    main()
