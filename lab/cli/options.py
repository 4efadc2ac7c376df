"""The application that commands register with, the options that several of them share, and what their texts mean."""

from pathlib import Path
from typing import Annotated

import typer

from lab.catalog import Catalog
from lab.words.errors import UsageError

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
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, all else on standard error.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Results = Annotated[Path, typer.Option("--results", help="The folder that holds the runs.")]
Services = Annotated[str, typer.Option("--services", help="embedded (from wheels) or system (from the PATH).")]
Seed = Annotated[int, typer.Option(help="Seed of arrivals, parameters and order.")]
Pairs = Annotated[int | None, typer.Option(min=1, help="Pairs per condition, instead of the mode's own number.")]
Topic = Annotated[str, typer.Option(help="All gotchas of one topic.")]
Part = Annotated[int, typer.Option(min=0, max=18, help="All gotchas of one part of the series, 1 to 18.")]
Names = Annotated[list[str] | None, typer.Argument(help="Names, with dashes or underscores, or unique prefixes.")]
Everything = Annotated[bool, typer.Option("--all", help="Every gotcha.")]
ROOT = Path(__file__).resolve().parents[2]
DEFAULT_RESULTS = ROOT / "results"
DEFAULT_SEED = 20261123
EXIT_BROKEN = 70
EXIT_INTERRUPTED = 130


def selected(catalog: Catalog, gotchas: list[str], topic: str, part: int, everything: bool) -> list[str]:
    """The slugs that the arguments ask for.  Raises UsageError: none, two ways at once, or one among them that is broken."""
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


def words_of(text: str) -> list[str]:
    """What stands between the commas."""
    return [one.strip() for one in text.split(",") if one.strip()]


def numbers_of(text: str) -> list[int]:
    """Numbers of workers between the commas.  Raises UsageError where one is none."""
    numbers = [int(one) if one.isdigit() else 0 for one in words_of(text)]
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{text!r} is not a list of worker counts", "For example `--workers 1,2,4`.")
    return numbers
