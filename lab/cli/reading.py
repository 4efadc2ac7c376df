"""The commands that read what is stored: verdict, diff, report, publish."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lab.cli.options import DEFAULT_RESULTS, ROOT, TOUR, Json, Results, app, words_of
from lab.cli.output import out, say, show
from lab.terminal import plain
from lab.words.errors import UsageError


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
    show(finished, as_json)
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

    gate = words_of(fail_on)
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
    gotchas: Annotated[list[str] | None, typer.Argument(help="Only these of the run.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="A quick run may take the place of a published full one.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="No run: build what is published again and mark what has changed since.")
    ] = False,
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Take the gotchas of a run into results/published, one by one, and renew the matrix in the README.

    What is published of other gotchas stays. A gotcha with missing trials is left out, and so is one of which a richer run (full before
    faults before quick) is published and still of today.
    """
    from analysis import publish as publishing
    from analysis.finish import finish
    from lab.catalog import Catalog
    from lab.store import find_run

    readme = ROOT / "README.md"
    if refresh:
        if run:
            raise UsageError("--refresh takes no run", "It builds again what is published.")
        where = publishing.refresh(DEFAULT_RESULTS, readme, TOUR)
        out({"format_version": 1, "published": str(where)}) if as_json else say(str(where))
        return
    found = find_run(results, run)
    only = [Catalog().resolve(name) for name in gotchas or []]
    finish(found)
    done = publishing.publish(found, DEFAULT_RESULTS, readme, TOUR, only, replace)
    if as_json:
        document = {"run": found.name, "published": str(done.path), "taken": done.taken, "left": done.left}
        out({"format_version": 1, **document})
        return
    for slug, why in done.left.items():
        say(f"left out: {slug}: {why}")
    say(f"{len(done.taken)} gotcha{'s' if len(done.taken) != 1 else ''} published: {done.path}")
