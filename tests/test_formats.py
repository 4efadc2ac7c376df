"""Files of older formats are read as what they were; newer ones are refused with the reason."""

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from analysis.model import RunVerdicts
from analysis.origins import environment_of, origins_of
from lab.model import RunPlan, Server
from lab.store import RunFolder, TrialFolder
from lab.words.codec import from_json, to_json
from lab.words.errors import StoreError
from lab.words.formats import STEPS, WRITTEN_AS
from lab.words.record import FORMAT_VERSION, Added, Environment, TrialRecord

GOLDEN = Path(__file__).parent / "golden"
KINDS: dict[str, Any] = {
    "TrialRecord": TrialRecord, "Environment": Environment, "RunPlan": RunPlan, "Added": Added, "RunVerdicts": RunVerdicts,
}  # fmt: skip
FILES: dict[str, Any] = {"trial": TrialRecord, "environment": Environment, "plan": RunPlan}


def newest(kind: type) -> int:
    return next(int(one.default) for one in fields(kind) if one.name == "format_version")  # type: ignore[arg-type]


def test_every_kind_has_a_step_to_each_of_its_formats_and_a_golden_file_of_each_older_one() -> None:
    assert {name: len(steps) + 1 for name, steps in STEPS.items()} == {
        name: newest(kind) for name, kind in KINDS.items()
    }
    older = {f"{name}-{number}.json" for name, kind in FILES.items() for number in range(1, newest(kind))}
    assert older <= {path.name for path in GOLDEN.iterdir()}


SAID_OTHERWISE = (".count_matches", ".loops")
"""What today's format says in another place."""


def test_a_switch_of_a_plan_became_the_name_of_an_observer() -> None:
    document = json.loads((GOLDEN / "plan-1.json").read_text())
    document["gotchas"][0]["conditions"][0]["count_matches"] = True
    plan = from_json(RunPlan, json.dumps(document), "plan")
    assert [one.observers for one in plan.gotchas[0].conditions][:2] == [("matches",), ()]


def test_the_loop_of_a_variant_became_its_server() -> None:
    plan = from_json(RunPlan, (GOLDEN / "plan-2.json").read_bytes(), "plan")
    condition = plan.gotchas[0].conditions[0]
    assert condition.server_of("correct") == condition.server == Server(workers=2)
    assert condition.server_of("naive") == Server(workers=2, loop="asyncio")


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
def test_a_golden_file_is_read_in_todays_format_with_all_that_it_said(path: Path) -> None:
    kind = FILES[path.name.partition("-")[0]]
    before = json.loads(path.read_text())
    record: Any = from_json(kind, path.read_bytes(), path.name)
    after = json.loads(to_json(record))
    assert before["format_version"] == int(path.stem.partition("-")[2])
    assert after.pop("format_version") == newest(kind)
    del before["format_version"]
    lost = [one for one in _within(before, after) if not one.endswith(SAID_OTHERWISE)]
    assert lost == []
    assert from_json(kind, to_json(record), "again") == record


def _within(before: Any, after: Any, where: str = "") -> list[str]:
    """Where the old document says something that the new one does not."""
    if isinstance(before, dict):
        lost = [f"{where}.{key}" for key in before if key not in after]
        return lost + [
            one for key in before if key in after for one in _within(before[key], after[key], f"{where}.{key}")
        ]
    if isinstance(before, list) and len(before) == len(after):
        return [
            one for i, (a, b) in enumerate(zip(before, after, strict=True)) for one in _within(a, b, f"{where}[{i}]")
        ]
    return [] if before == after else [f"{where}: {before!r} became {after!r}"]


@pytest.mark.parametrize("written", [1, 2])
def test_what_an_old_trial_did_not_count_is_unknown_and_not_zero(written: int, tmp_path: Path) -> None:
    (tmp_path / "trial.json").write_bytes((GOLDEN / f"trial-{written}.json").read_bytes())
    record = TrialFolder(tmp_path).record
    generator = record.generator
    assert generator is not None
    assert (generator.planned, generator.sent) == (100, 99)
    assert (generator.rows, generator.never_sent, generator.steady, generator.warmup_s) == (None, None, None, None)
    assert record.extra == {"probe_client_s": [0.001], WRITTEN_AS: written}
    assert record.affinity == ({} if written == 1 else {"generator": (1,), "target": (0,)})
    assert record.processes["server"].memory_kind == "rss"


def test_todays_trial_does_not_say_that_it_is_an_old_one() -> None:
    record = TrialRecord("a/b", "c", 0, "naive", 5, "failed", "why")
    assert from_json(TrialRecord, to_json(record), "here") == record


@pytest.mark.parametrize("name", ["trial.json", "plan.json", "environment.json"])
def test_a_newer_format_is_refused_with_both_numbers(name: str, tmp_path: Path) -> None:
    document = json.loads((GOLDEN / name.replace(".json", "-1.json")).read_text())
    document["format_version"] = FORMAT_VERSION + 1
    (tmp_path / name).write_text(json.dumps(document))
    run = RunFolder(tmp_path)
    readers: dict[str, Callable[[], object]] = {
        "trial.json": lambda: TrialFolder(tmp_path).record,
        "plan.json": lambda: run.plan,
        "environment.json": lambda: run.environment,
    }
    with pytest.raises(StoreError, match=rf"{name} has format {FORMAT_VERSION + 1}.*up to \d") as caught:
        readers[name]()
    assert "newer version" in caught.value.hint


@pytest.mark.parametrize("version", [None, 0, "2", True])
def test_a_file_without_a_format_is_not_read_as_the_newest(version: object) -> None:
    document = {**json.loads((GOLDEN / "trial-1.json").read_text()), "format_version": version}
    with pytest.raises(StoreError, match="format_version is"):
        from_json(TrialRecord, json.dumps(document), "trial.json")
    del document["format_version"]
    with pytest.raises(StoreError, match="format_version is None"):
        from_json(TrialRecord, json.dumps(document), "trial.json")


def test_a_file_that_is_no_json_is_named() -> None:
    with pytest.raises(StoreError, match=r"trial\.json: no JSON"):
        from_json(TrialRecord, b'{"gotcha": ', "trial.json")


def test_the_published_run_can_be_read() -> None:
    run = RunFolder(GOLDEN.parent.parent / "results" / "published")
    origins = origins_of(run.path)
    assert run.plan.gotchas and origins.keys() == {plan.slug for plan in run.plan.gotchas}
    for origin in origins.values():
        environment = environment_of(run.path, origin)
        assert environment is not None and environment.cores


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("field", ["processes", "generator", "extra"])
@pytest.mark.parametrize("value", [5, "x", [1], {"server": None}])
def test_a_damaged_file_of_an_older_format_is_named(number: int, field: str, value: Any) -> None:
    document = {**json.loads((GOLDEN / f"trial-{number}.json").read_text()), field: value}
    if field == "extra" and isinstance(value, dict):
        return  # anything may stand there
    with pytest.raises(StoreError, match=r"^some/trial\.json"):
        from_json(TrialRecord, json.dumps(document), "some/trial.json")
