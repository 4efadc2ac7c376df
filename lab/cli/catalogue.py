"""What there is: list, new."""

from typing import Annotated

import typer

from lab.catalog import Catalog
from lab.cli.options import Json, Part, Topic, app
from lab.cli.output import out, say
from lab.terminal import note
from lab.words.errors import UsageError


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
def new(name: Annotated[str, typer.Argument(metavar="TOPIC/GOTCHA")], as_json: Json = False) -> None:
    """Scaffold a gotcha: a pair and a scenario that already run."""
    from lab.catalog.scaffold import scaffold

    made = scaffold(name)
    if as_json:
        out({"format_version": 1, "files": made})
    else:
        say("\n".join([*made, f"Next: edit them, then `uv run bench.py run {name}`."]))
