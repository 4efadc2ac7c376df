"""What is shown of a verdict: the same bytes whenever it is judged, no number that is not believed, ranges beside intervals."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.answers import answer_of, sentence
from analysis.charts.model import ChartData, ChartUnavailable
from analysis.charts.rows import forest
from analysis.charts.select import title_of
from analysis.finish import document
from analysis.judge import judge_run, write_verdicts
from analysis.model import ClaimVerdict, ConditionVerdict, GotchaVerdict, RunVerdicts, VerdictName
from analysis.report.build import build_report
from analysis.report.figures import answered_text, interval_text, measured_text, value_text
from analysis.report.matrix import matrix_markdown
from analysis.report.pages import condition_table
from analysis.statistics import of_ratios, of_values
from analysis.table import verdicts_text
from analysis.yardstick import ceiling_of, yardstick_of
from lab.model import Chart
from lab.store import ROOT, YARDSTICK, RunFolder
from lab.words.codec import from_json, to_json
from lab.words.errors import StoreError
from lab.words.record import SELFTEST_VERSION, Environment
from tests.fakes import gotcha_plan
from tests.sample_run import build
from tests.scripted import CONDITION, NEVER, Said, claim, run_of

# ---------------------------------------------------------------- judging again

SELFTEST = {
    "format_version": SELFTEST_VERSION, "created_at": "2026-11-20T10:00:00+00:00", "ok": True, "can_see": "6 %", "lines": [],
    "ceiling": {"lab_rps": 40_000.0},
}  # fmt: skip
AGAIN = """
import sys
from pathlib import Path
from analysis.judge import judge_run, write_verdicts
from analysis.report.build import build_report
from lab.store import RunFolder
run = RunFolder(Path(sys.argv[1]))
write_verdicts(run, judge_run(run))
build_report(run.path, Path(sys.argv[2]))
"""


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_judging_again_gives_the_same_bytes_wherever_the_run_lies_and_whatever_was_measured_since(
    tmp_path: Path,
) -> None:
    """Another folder, another name, another order of sets and dictionaries, and a newer self-test beside it."""
    sample = build(tmp_path / "here")
    shutil.rmtree(sample.run.derived)
    sample.run.write_yardstick(SELFTEST)
    elsewhere = tmp_path / "there" / "deeper" / "results" / "copied"
    shutil.copytree(sample.run.path, elsewhere)
    newer = elsewhere.parent / "newer"
    newer.mkdir()
    (newer / "selftest.json").write_text(json.dumps({**SELFTEST, "ceiling": {"lab_rps": 21.0}}))
    derived = []
    for seed, run in ((1, sample.run.path), (2, elsewhere)):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        subprocess.run([sys.executable, "-c", AGAIN, str(run), str(sample.root)], cwd=ROOT, env=environment, check=True)
        derived.append(files_of(run / "derived"))
    first, second = derived
    assert first.keys() == second.keys() and "verdicts.json" in first and "report/index.html" in first
    assert [name for name in first if first[name] != second[name]] == []
    gates = {g.detail for g in from_json(RunVerdicts, first["verdicts.json"], "x").gotchas[0].gates if g.gate == "G6"}
    assert any("40000" in detail for detail in gates), gates


def environment_with(**limits: str) -> Environment:
    return Environment("3", "Linux", "cpu", 2, 1, {}, {}, {}, limits, {})


def test_the_ceiling_is_the_runs_own_then_that_of_the_selftest_it_keeps_and_never_a_newer_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "results" / "run")
    run.path.mkdir(parents=True)
    newer = tmp_path / "results" / "selftest"
    newer.mkdir()
    (newer / "selftest.json").write_text(json.dumps(SELFTEST))
    assert yardstick_of(run) is None and ceiling_of(run) is None
    run.write_yardstick(SELFTEST)
    assert (run.path / YARDSTICK).is_file() and ceiling_of(run) == 40_000.0
    run.write_environment(environment_with(generator_ceiling_rps="90000"))
    assert ceiling_of(run) == 90_000.0


# ---------------------------------------------------------------- numbers that are not believed

INVALID_S = 0.0777
"""Spelled 77.7 ms or 0.0777: nowhere else in what is printed."""
TRACE = re.compile(r"77[.,]7|0\.0777|0\.077|\b78 ms")


@pytest.fixture(scope="module")
def invalid(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunVerdicts]:
    """A claim whose pairs were all spoiled, and one that is fine."""
    asked = (
        claim("naive.latency_p50_s", 0.5, "at_most", name="spoiled"), claim("naive.observed[rows]", 3.0, tolerance=0.0, name="fine"),
    )  # fmt: skip
    charts = (
        Chart("forest", "", "All of them"),
        Chart("counts", "observed[rows]", "Half of {spoiled:.4f} s", y_label="rows"),
    )
    plan = gotcha_plan(
        *asked, conditions=(CONDITION,), charts=charts, answer="It takes {spoiled:.4f} s for {fine:.0f} rows."
    )
    row = Said(INVALID_S, {"noise": {"foreign_cpu_share": 0.9}, "observed": {"rows": 3.0}})
    run = run_of(tmp_path_factory.mktemp("invalid"), {"naive": (row,), "correct": (Said(0.01),)}, plan, pairs=3)
    verdicts = judge_run(run)
    assert [one.verdict for one in verdicts.gotchas[0].claims] == ["invalid", "reproduced"]
    return run, verdicts


def printed(run: RunFolder, verdicts: RunVerdicts) -> Iterator[tuple[str, str]]:
    yield "table", verdicts_text(verdicts)
    yield "json", json.dumps(document(verdicts))
    yield "matrix", matrix_markdown(verdicts, run.plan.gotchas)
    yield "answer", verdicts.gotchas[0].answer
    for chart in run.plan.gotchas[0].charts:
        yield "title", title_of(chart, verdicts.gotchas[0].claims)
    yield "claims", to_json(replace(verdicts, gotchas=(replace(verdicts.gotchas[0], metrics={}),))).decode()


def test_an_invalid_number_is_quoted_nowhere(invalid: tuple[RunFolder, RunVerdicts]) -> None:
    run, verdicts = invalid
    for where, text in printed(run, verdicts):
        assert not TRACE.search(text), f"{where}: {TRACE.search(text)}"
    write_verdicts(run, verdicts)
    build_report(run.path, ROOT)
    page = (run.derived / "report" / "gotchas" / "event_loop.example.html").read_text()
    claims = page[page.index('<section id="answer"') : page.index('<section id="conditions"')]
    assert not TRACE.search(re.sub(r"<svg.*?</svg>", "", claims, flags=re.DOTALL))
    assert "not measured" in claims and "gate G9 failed" in claims


def test_a_stored_number_of_an_invalid_claim_is_not_quoted_either(invalid: tuple[RunFolder, RunVerdicts]) -> None:
    """A verdict of an older lab has one."""
    run, verdicts = invalid
    (gotcha,) = verdicts.gotchas
    spoiled, fine = gotcha.claims
    at = replace(spoiled.conditions[0], measured=of_values([INVALID_S] * 3))
    old = replace(gotcha, claims=(replace(spoiled, conditions=(at,)), fine), metrics={})
    found = RunVerdicts("run", (replace(old, answer=answer_of(run.plan.gotchas[0], old.claims)),))
    shown = {where: text for where, text in printed(run, found) if where not in ("json", "claims")}
    for where, text in shown.items():
        assert not TRACE.search(text), where
    assert document(found)["gotchas"][0]["claims"][0]["measured"] is None
    with pytest.raises(ChartUnavailable):
        forest(Chart("forest", "", "x", theory=("spoiled",)), ChartData(run.plan.gotchas[0], found.gotchas[0]))


def test_a_sentence_gives_way_where_it_needs_a_number_that_may_not_be_quoted(
    invalid: tuple[RunFolder, RunVerdicts],
) -> None:
    run, verdicts = invalid
    (gotcha,) = verdicts.gotchas
    assert gotcha.answer.startswith("This run has no answer to whether the statement of spoiled: gate G9 failed")
    assert title_of(run.plan.gotchas[0].charts[1], gotcha.claims) == "Rows"
    assert (
        sentence("{fine} rows, {spoiled.predicted} s predicted, {spoiled.verdict}", gotcha.claims)
        == "3 rows, 0.5 s predicted, invalid"
    )
    assert sentence("{spoiled}", gotcha.claims) == sentence("{nothing.low}", gotcha.claims) == ""
    assert sentence("broken {", gotcha.claims) == "broken {"


def conclusion(*values: float, verdict: str = "reproduced", **more: object) -> ConditionVerdict:
    return ConditionVerdict("one", 1.0, of_ratios(values), verdict, "because: of this", len(values), **more)  # type: ignore[arg-type]


def a_claim(
    *conditions: ConditionVerdict, verdict: VerdictName = "reproduced", stands_in: bool = False
) -> ClaimVerdict:
    return ClaimVerdict(
        "c", "harm", "s", "naive.latency_p50_s", "s", "f", "s", "about", 0.1, verdict, "one", conditions, False, stands_in=stands_in
    )  # fmt: skip


def test_never_is_a_word_and_not_a_number() -> None:
    never = conclusion(0.1, math.inf, 0.2)
    assert value_text(never.measured, "s") == "never in 1 of 3 trials" and interval_text(never.measured, "s") == ""
    assert value_text(of_values([math.inf]), "s") == "never"
    assert sentence("{c:.2f} s", [a_claim(never)]) == ""
    found = RunVerdicts("r", (GotchaVerdict("a/b", "t", "law_broken", "", {}, (a_claim(never),), (), ()),))
    told = document(found)
    assert told["gotchas"][0]["claims"][0]["measured"] == "never"
    json.dumps(told, allow_nan=False)


def test_the_number_of_another_condition_is_not_quoted_in_the_place_of_one_that_was_not_run() -> None:
    assert sentence("{c}", [a_claim(conclusion(2.0, 2.0))]) == "2"
    assert sentence("{c}", [a_claim(conclusion(2.0, 2.0), stands_in=True)]) == ""


def test_figures_are_those_of_the_condition_that_gave_the_verdict() -> None:
    good, bad = conclusion(2.0, 2.0), replace(conclusion(5.0, 5.0), condition="two", verdict="larger")
    assert a_claim(good, bad, verdict="larger").speaking == bad
    assert a_claim(good, replace(bad, verdict="reproduced")).speaking == good


def test_the_share_answered_is_shown_where_it_is_below_one() -> None:
    assert answered_text(conclusion(1.0, 1.0, answered=0.973)) == "97.3 % answered"
    assert answered_text(conclusion(1.0, 1.0, answered=0.99999)) == "99.9 % answered"  # not 100
    assert answered_text(conclusion(1.0, 1.0, answered=1.0)) == answered_text(conclusion(1.0, 1.0)) == ""
    assert measured_text(conclusion(1.0, 1.0, answered=0.5), "s") == "1 s, 50 % answered"


def test_an_interval_says_its_level_where_it_is_not_the_usual_one() -> None:
    assert interval_text(of_ratios([0.9, 1.0, 1.1]), "x").endswith("×")
    assert interval_text(of_ratios([0.9, 1.0, 1.1], level=0.97), "x").endswith("×, 97 %")


def test_the_means_on_the_page_do_not_leave_out_what_never_came(tmp_path: Path) -> None:
    plan = gotcha_plan(claim("naive.latency_p50_s", 0.5), conditions=(CONDITION,))
    run = run_of(tmp_path, {"naive": (0.1, NEVER, 0.3), "correct": (NEVER,)}, plan, pairs=3)
    (gotcha,) = judge_run(run).gotchas
    names, (row,) = condition_table(gotcha, plan)
    cells = {variant: dict(zip(names, values, strict=True)) for variant, _, values in row.variants}
    assert (cells["naive"]["median"], cells["correct"]["median"]) == ("never in 1 of 3", "never")


# ---------------------------------------------------------------- verdicts.json

GOLDEN = Path(__file__).parent / "golden_verdicts" / "verdicts-1.json"


def test_a_range_of_an_older_format_is_no_interval_any_more() -> None:
    before = json.loads(GOLDEN.read_text())
    claims = {one.id: one for one in from_json(RunVerdicts, GOLDEN.read_bytes(), "old").gotchas[0].claims}
    assert before["format_version"] == 1
    law, ratio = claims["law"].at_headline.measured, claims["ratio"].at_headline.measured
    assert law is not None and (law.low, law.high, law.lowest, law.highest) == (None, None, 298.0, 354.0)
    assert ratio is not None and (ratio.low, ratio.high, ratio.lowest, ratio.highest) == (1.9, 2.1, 1.95, 2.05)
    assert claims["absent"].at_headline.measured is None
    assert law.is_range and not ratio.is_range


def test_todays_verdicts_are_read_back_as_they_were(tmp_path: Path) -> None:
    plan = gotcha_plan(claim("naive.latency_p50_s", 0.1, "at_most", 0.0), conditions=(CONDITION,))
    verdicts = judge_run(run_of(tmp_path, {"naive": (0.05, NEVER, 0.07)}, plan, pairs=3))
    assert from_json(RunVerdicts, to_json(verdicts), "today") == verdicts
    newer = json.loads(to_json(verdicts))
    newer["format_version"] += 1
    with pytest.raises(StoreError, match="has format 3"):
        from_json(RunVerdicts, json.dumps(newer), "verdicts.json")
