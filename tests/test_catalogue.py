"""The catalogue as data: whole, unique, and every row that a gotcha or the series names is there."""

import json
from pathlib import Path

from lab.catalog import Catalog
from lab.catalog import known as catalogue_rows

ROOT = Path(__file__).resolve().parent.parent
HOW = {"tried", "source code", "documentation", "issue", "web page", "derived", "the post", "memory"}
ROWS = catalogue_rows.catalogue()


def test_every_row_is_whole() -> None:
    assert len(ROWS) == 328
    for row in ROWS:
        assert set(row) == catalogue_rows.FIELDS, row["id"]
        assert row["claim"].endswith(".") and row["mistake"] and row["fix"], row["id"]
        assert row["evidence"]["how"] in HOW and row["measure"] in ("count", "order", "ratio", "time"), row["id"]
        assert row["feasible"] in ("yes", "with care", "no"), row["id"]


def test_ids_are_unique_and_the_parts_are_those_of_their_files() -> None:
    every = [*ROWS, *catalogue_rows.no_longer_true()]
    assert len({row["id"] for row in every}) == len(every)
    for path in catalogue_rows.FOLDER.glob("part-*.json"):
        assert {row["part"] for row in json.loads(path.read_text())} == {int(path.stem[-2:])}


def test_what_gotchas_and_the_series_name_is_in_it() -> None:
    known = {row["id"] for row in [*ROWS, *catalogue_rows.no_longer_true()]}
    assert not set(catalogue_rows.measured_by(Catalog().gotchas)) - known
    series = json.loads((ROOT / "analysis" / "report" / "source_claims.json").read_text())
    assert not {one for part in series["parts"] for claim in part["claims"] for one in claim["catalogue_ids"]} - known


def test_a_row_says_which_gotcha_measures_it_and_is_found_by_its_words() -> None:
    rows = catalogue_rows.rows([{"slug": "caching/stampede", "catalogue_ids": ["ca-stampede"]}])
    (found,) = [row for row in rows if row["measured_by"]]
    assert found["id"] == "ca-stampede" and found["measured_by"] == ["caching/stampede"]
    text = catalogue_rows.table(catalogue_rows.searched(rows, ["ca-stampede"]))
    assert "✓ ca-stampede" in text and "measured by caching/stampede" in text and "1 measured by this lab" in text
    assert max(map(len, text.splitlines())) <= 100
