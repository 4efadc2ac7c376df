"""Targets and services by hand, and the lab itself: serve, services, doctor, selftest."""

import json
from typing import Annotated

import typer

from lab.catalog import Catalog
from lab.cli.options import DEFAULT_RESULTS, DEFAULT_SEED, EXIT_BROKEN, Json, Quiet, Results, Seed, Services, app
from lab.cli.output import out, say


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
