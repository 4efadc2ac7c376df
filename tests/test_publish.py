"""The published set: each gotcha from its own run, none lost, none replaced by a poorer one, and marked where it is not of today."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.model import ClaimVerdict, ConditionVerdict, GotchaVerdict, RunVerdicts
from analysis.origins import origins_of, stale_gotchas
from analysis.publish import publish, refresh, verdicts_of
from analysis.report.build import build_report
from analysis.report.matrix import BEGIN, END, RESULTS_BEGIN, RESULTS_END
from lab.catalog.hashes import content_hash, measured_files
from lab.model import ClaimPlan, ClosedLoad, Condition, GotchaPlan, RunPlan, TrialPlan
from lab.store import RunFolder, write_bytes
from lab.words.codec import to_json
from lab.words.errors import UsageError
from tests.sample_run import BLOCKED, EVIL, LIMITER, Sample, build, record

SLUGS = {BLOCKED, LIMITER, EVIL}
PINS = '[tool.uv]\nconstraint-dependencies = ["fastapi==0.165.0", "pandas==3.1.1"]\n'


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A project with scenarios and pins, and one run of its three gotchas of just these files."""
    made = build(tmp_path)
    for slug in SLUGS:
        scenario = made.root / "scenarios" / f"{slug}.py"
        scenario.parent.mkdir(parents=True, exist_ok=True)
        scenario.write_text("# conditions and claims\n")
    (made.root / "pyproject.toml").write_text(PINS)
    (made.root / "README.md").write_text(f"{RESULTS_BEGIN}\n{RESULTS_END}\n{BEGIN}\n{END}\n")
    gotchas = tuple(replace(one, content_hash=today(made.root, one.slug)) for one in made.plan.gotchas)
    plan = replace(made.plan, gotchas=gotchas)
    run = planned(made.run.path, plan)
    build_report(run.path, made.root)
    return Sample(run, made.root, plan, made.verdicts)


def today(root: Path, slug: str) -> str:
    return content_hash(measured_files(root / "scenarios" / f"{slug}.py", root / "targets" / slug))


def planned(folder: Path, plan: RunPlan) -> RunFolder:
    run = RunFolder(folder)
    run.write_plan(plan)
    return RunFolder(folder)


def later(sample: Sample, **changes: object) -> RunFolder:
    """Another run of the same, begun a day later."""
    folder = sample.run.path.with_name("20261124-080000-later")
    shutil.copytree(sample.run.path, folder)
    gotchas = tuple(replace(one, content_hash=today(sample.root, one.slug)) for one in sample.plan.gotchas)
    plan = replace(sample.plan, run=folder.name, created_at="2026-11-24T08:00:00+00:00", gotchas=gotchas)
    run = planned(folder, replace(plan, **changes))  # type: ignore[arg-type]
    write_bytes(run.derived / "verdicts.json", to_json(replace(sample.verdicts, run=folder.name)))
    return run


def put(sample: Sample, run: RunFolder, only: Sequence[str] = (), replace_richer: bool = False) -> RunFolder:
    readme = sample.root / "README.md"
    return RunFolder(publish(run, sample.root / "results", readme, (), only, replace_richer).path)


def test_what_another_run_measured_stays(sample: Sample) -> None:
    put(sample, sample.run)
    published = put(sample, later(sample), [BLOCKED])
    origins = origins_of(published.path)
    assert {slug: one.day for slug, one in origins.items()} == {
        BLOCKED: "2026-11-24", LIMITER: "2026-11-23", EVIL: "2026-11-23",
    }  # fmt: skip
    assert {one.gotcha for one in verdicts_of(published).gotchas} == SLUGS
    assert all((published.path / one.environment).is_file() for one in origins.values())
    readme = (sample.root / "README.md").read_text()
    assert "3 gotchas, measured between 2026-11-23 and 2026-11-24." in readme and "↻" not in readme
    page = (published.derived / "report" / "gotchas" / "event_loop.blocked_loop.html").read_text()
    assert "20261124-080000-later" in page and "Not of today" not in page
    assert "20261123-200000-sample" in (published.derived / "report" / "index.html").read_text()


def test_charts_are_kept_although_the_samples_are_gone(sample: Sample) -> None:
    published = put(sample, sample.run)
    shutil.rmtree(sample.run.path)
    refresh(sample.root / "results", sample.root / "README.md", ())
    page = (published.derived / "report" / "gotchas" / "event_loop.blocked_loop.html").read_text()
    assert page.count("<svg role") >= 4 and page.count("cannot be drawn") == 0


def test_a_gotcha_with_missing_trials_is_left_and_the_others_are_taken(sample: Sample) -> None:
    (sample.run.trial(LIMITER, sample.plan.gotcha(LIMITER).conditions[0].key, 0, "naive").path / "trial.json").unlink()
    readme = sample.root / "README.md"
    done = publish(sample.run, sample.root / "results", readme, ())
    assert set(done.taken) == SLUGS - {LIMITER} and "1 of " in done.left[LIMITER]
    assert set(origins_of(done.path)) == SLUGS - {LIMITER}
    with pytest.raises(UsageError, match="trials are missing"):
        publish(sample.run, sample.root / "results", readme, (), [LIMITER])


def test_a_quick_run_takes_the_place_of_a_full_one_only_where_it_is_asked_for(sample: Sample) -> None:
    put(sample, later(sample, mode="full"))
    with pytest.raises(UsageError, match="this run is quick, the published one of 2026-11-24 is full"):
        put(sample, sample.run)
    published = put(sample, sample.run, [BLOCKED], replace_richer=True)
    assert {slug: one.mode for slug, one in origins_of(published.path).items()} == {
        BLOCKED: "quick", LIMITER: "full", EVIL: "full",
    }  # fmt: skip


def test_a_full_run_of_other_code_is_replaced_by_a_quick_one_of_today(sample: Sample) -> None:
    put(sample, replace_mode(sample, "full"))
    (sample.root / "targets" / BLOCKED / "naive.py").write_text("# another app\n")
    published = put(sample, later(sample), [BLOCKED])
    assert origins_of(published.path)[BLOCKED].mode == "quick"


def replace_mode(sample: Sample, mode: str) -> RunFolder:
    return planned(sample.run.path, replace(sample.plan, mode=mode))  # type: ignore[arg-type]


def test_changed_code_is_marked_on_the_page_in_the_index_and_in_the_readme(sample: Sample) -> None:
    published = put(sample, sample.run)
    assert stale_gotchas(published.path, published.plan.gotchas, sample.root) == {}
    (sample.root / "targets" / BLOCKED / "correct.py").write_text("# mended\n")
    refresh(sample.root / "results", sample.root / "README.md", ())
    why = "measured before a change of its code"
    assert stale_gotchas(published.path, published.plan.gotchas, sample.root) == {BLOCKED: why}
    report = published.derived / "report"
    assert why in (report / "gotchas" / "event_loop.blocked_loop.html").read_text()
    assert (report / "index.html").read_text().count(why) == 1
    assert (sample.root / "README.md").read_text().count("<br>↻") == 1


def test_another_version_of_a_package_under_test_is_marked_and_one_that_only_draws_is_not(sample: Sample) -> None:
    published = put(sample, sample.run)
    (sample.root / "pyproject.toml").write_text(PINS.replace("3.1.1", "3.2.0"))
    assert not stale_gotchas(published.path, published.plan.gotchas, sample.root)
    (sample.root / "pyproject.toml").write_text(PINS.replace("0.165.0", "0.170.0"))
    found = stale_gotchas(published.path, published.plan.gotchas, sample.root)
    assert found == dict.fromkeys(SLUGS, "measured before a change of fastapi (0.165.0 then, 0.170.0 now)")


def test_a_gotcha_that_the_lab_no_longer_has_is_dropped(sample: Sample) -> None:
    published = put(sample, sample.run)
    (sample.root / "scenarios" / f"{LIMITER}.py").unlink()
    refresh(sample.root / "results", sample.root / "README.md", ())
    assert set(origins_of(published.path)) == SLUGS - {LIMITER}


def test_building_what_is_published_again_changes_nothing(sample: Sample) -> None:
    published = put(sample, sample.run)
    before = {path: path.read_bytes() for path in published.path.rglob("*") if path.is_file()}
    refresh(sample.root / "results", sample.root / "README.md", ())
    after = {path: path.read_bytes() for path in published.path.rglob("*") if path.is_file()}
    assert before == after


def test_a_published_folder_of_one_run_is_read_as_such(sample: Sample) -> None:
    """The form before there were origins: plan.json and environment.json of the run itself."""
    old = sample.root / "results" / "published"
    shutil.copytree(sample.run.path, old)
    shutil.rmtree(old / "trials")
    published = put(sample, later(sample), [BLOCKED])
    assert {slug: one.run for slug, one in origins_of(published.path).items()} == {
        BLOCKED: "20261124-080000-later", LIMITER: sample.run.name, EVIL: sample.run.name,
    }  # fmt: skip
    assert (published.path / "environments" / f"{sample.run.name}.json").is_file()


def test_the_published_set_cannot_be_published_into_itself(sample: Sample) -> None:
    published = put(sample, sample.run)
    with pytest.raises(UsageError, match="the published set itself"):
        put(sample, published)


def tried(sample: Sample, verdict: str, day: int, folder: str = "faults") -> RunFolder:
    """A run of the faults of one gotcha alone, with one claim of what its fix holds."""
    fault = Condition("PostgreSQL refuses", ClosedLoad(4), fault="PostgreSQL refuses", quick=False, quick_pairs=1)
    hold = ClaimPlan(
        "correct_answers", "hold", "every request is answered", "correct.hold_answer_s", "2", "", "at_most", 0.0, None, fault.key,
        {fault.key: 2.0},
    )  # fmt: skip
    of = next(one for one in sample.plan.gotchas if one.slug == BLOCKED)
    gotcha = replace(of, conditions=(fault,), claims=(hold,), content_hash=today(sample.root, BLOCKED))
    path = sample.run.path.with_name(f"202611{day}-090000-{folder}")
    trial = TrialPlan(BLOCKED, fault.key, 0, "correct", 7)
    run = RunFolder(path)
    plan = RunPlan(path.name, "faults", 1, f"2026-11-{day}T09:00:00+00:00", (gotcha,), (trial,), 1)
    run.write_plan(plan)
    run.write_environment(sample.run.environment)
    at = ConditionVerdict(fault.key, 2.0, None, verdict, "", 1)  # type: ignore[arg-type]
    claim = ClaimVerdict(
        hold.id, "hold", hold.statement, hold.metric, "s", hold.formula, "", "at_most", 0.0, verdict, fault.key, (at,), False  # type: ignore[arg-type]
    )  # fmt: skip
    judged = GotchaVerdict(
        BLOCKED, of.title, verdict, "held", {}, (claim,), (), (), {fault.key: {"correct": {"hold_answer_s": (0.1,)}}}  # type: ignore[arg-type]
    )  # fmt: skip
    write_bytes(run.derived / "verdicts.json", to_json(RunVerdicts(path.name, (judged,))))
    done = run.trial(trial.gotcha, trial.condition, trial.pair, trial.variant)
    done.path.mkdir(parents=True)
    done.write(record(gotcha, trial))
    build_report(run.path, sample.root)
    return run


def published_one(published: RunFolder) -> tuple[GotchaPlan, GotchaVerdict]:
    verdict = next(one for one in verdicts_of(published).gotchas if one.gotcha == BLOCKED)
    return published.plan.gotcha(BLOCKED), verdict


def test_faults_of_another_run_are_added_and_kept_when_the_claims_are_measured_anew(sample: Sample) -> None:
    before = put(sample, sample.run)
    plan, verdict = published_one(before)
    after = put(sample, tried(sample, "reproduced", 25))
    joined, judged = published_one(after)
    assert [one.fault for one in joined.conditions][-1] == "PostgreSQL refuses"
    assert len(joined.conditions) == len(plan.conditions) + 1 and len(judged.claims) == len(verdict.claims) + 1
    assert judged.verdict == "reproduced" and judged.answer == verdict.answer
    origin = origins_of(after.path)[BLOCKED]
    assert origin.run == sample.run.name and origin.faults is not None and origin.faults.run == "20261125-090000-faults"
    again = put(sample, later(sample), [BLOCKED])
    assert published_one(again)[0].conditions == joined.conditions
    origin = origins_of(again.path)[BLOCKED]
    assert origin.day == "2026-11-24" and origin.faults is not None and origin.faults.day == "2026-11-25"
    newer = put(sample, tried(sample, "larger", 26))
    assert published_one(newer)[1].verdict == "larger", "the worst of all claims"
    assert len(published_one(newer)[0].conditions) == len(joined.conditions)
    page = (newer.derived / "report" / "gotchas" / "event_loop.blocked_loop.html").read_text()
    assert "20261126-090000-faults" in page


def test_faults_that_were_tried_on_other_code_are_not_added(sample: Sample) -> None:
    put(sample, sample.run)
    (sample.root / "targets" / BLOCKED / "correct.py").write_text("# mended\n")
    with pytest.raises(UsageError, match="publish a run of its claims first"):
        put(sample, tried(sample, "reproduced", 25))


def test_faults_of_older_code_go_when_the_claims_are_measured_anew(sample: Sample) -> None:
    put(sample, sample.run)
    put(sample, tried(sample, "reproduced", 25))
    (sample.root / "targets" / BLOCKED / "correct.py").write_text("# mended\n")
    published = put(sample, later(sample), [BLOCKED])
    assert origins_of(published.path)[BLOCKED].faults is None
    assert not any(one.fault for one in published_one(published)[0].conditions)


def test_a_gotcha_of_which_only_faults_were_tried_is_published_as_such(sample: Sample) -> None:
    published = put(sample, tried(sample, "reproduced", 25))
    assert origins_of(published.path)[BLOCKED].mode == "faults"
    published = put(sample, later(sample), [BLOCKED])
    assert (
        origins_of(published.path)[BLOCKED].mode == "quick" and origins_of(published.path)[BLOCKED].faults is not None
    )
