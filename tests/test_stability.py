"""The script that asks whether every verdict is right every time: what it counts, what it objects to, and that it can be interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import stability
from scripts.stability import Outcome, lines, perform, planned, read, report, run_all, summarize

ROOT = Path(__file__).resolve().parent.parent


def claim(name: str, verdict: str, reason: str = "") -> dict[str, Any]:
    at = {"condition": "10-users", "verdict": verdict, "reason": reason or verdict, "pairs": 3, "predicted": 1.0}
    calm = {"condition": "1-user", "verdict": "reproduced", "reason": "fits", "pairs": 3, "predicted": 1.0}
    return {"id": name, "kind": "harm", "verdict": verdict, "reason": reason or verdict, "conditions": [calm, at]}


def document(
    *claims: dict[str, Any], repeated: int = 0, added: int = 0, failed: int = 0, partial: bool = False
) -> dict[str, Any]:
    effort = {
        "trials": 6,
        "failed": failed,
        "pairs_repeated": [{"condition": "c", "pair": n} for n in range(repeated)],
        "pairs_added": added,
    }
    return {
        "partial": partial,
        "gotchas": [{"gotcha": "event_loop/x", "verdict": "reproduced", "claims": list(claims), "effort": effort}],
    }


def tour(number: int, *claims: dict[str, Any], code: int = 0, **changed: Any) -> Outcome:
    return Outcome(f"tour-{number:03}", code, document(*claims, **changed))


GOOD = [tour(number, claim("a", "reproduced"), claim("b", "smaller")) for number in range(1, 4)]


def test_verdicts_are_counted_claim_by_claim() -> None:
    found = summarize(
        [*GOOD, Outcome("run-001", 2, document(claim("a", "inconclusive", "too wide"), repeated=2, added=3, failed=1))]
    )
    assert found.claims["event_loop/x: a"].verdicts == {"reproduced": 3, "inconclusive": 1}
    assert found.claims["event_loop/x: b"].verdicts == {"smaller": 3}
    assert found.judged == 7 and found.inconclusive_share == 1 / 7
    assert (
        found.pairs_repeated == {"event_loop/x": 2}
        and found.pairs_added == {"event_loop/x": 3}
        and found.trials_failed == 1
    )
    text = "\n".join(lines(found))
    assert "3 reproduced, 1 inconclusive" in text and "10-users (3 pairs): inconclusive: too wide" in text
    assert "1-user" not in text, "a condition that is fine is not listed"


def test_what_is_good_has_no_objection() -> None:
    assert summarize(GOOD, ["tour-001", "tour-002", "tour-003"]).objections() == []


@pytest.mark.parametrize("word", ["not_reproduced", "law_broken", "reversed", "invalid"])
def test_one_wrong_word_in_a_hundred_is_one_too_many(word: str) -> None:
    outcomes = [Outcome(f"run-{n:03}", 0, document(claim("a", "reproduced"))) for n in range(99)]
    outcomes.append(Outcome("run-099", 1, document(claim("a", word))))
    (objection,) = summarize(outcomes).objections()
    assert objection == f"event_loop/x: a: {word.replace('_', ' ')} 1 of 100 times"


@pytest.mark.parametrize(("undecided", "stable"), [(1, True), (2, False)])
def test_one_percent_may_stay_undecided_and_no_more(undecided: int, stable: bool) -> None:
    words = ["inconclusive"] * undecided + ["reproduced"] * (100 - undecided)
    found = summarize([Outcome(f"run-{n:03}", 0, document(claim("a", word))) for n, word in enumerate(words)])
    assert (found.objections() == []) is stable


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (tour(4, claim("a", "reproduced"), code=1), "tour-004 exited 1"), (Outcome("tour-004", 0, None), "tour-004 gave no document"),
        (Outcome("run-001", 70, document(claim("a", "reproduced"))), "run-001 exited 70"),
        (Outcome("run-001", 0, document(claim("a", "reproduced"), partial=True)), "run-001 gave no document, or part of one"),
    ],
)  # fmt: skip
def test_tours_must_exit_0_and_everything_must_come_to_its_end(outcome: Outcome, said: str) -> None:
    assert any(said in one for one in summarize([*GOOD, outcome]).objections())


def test_a_run_of_everything_may_exit_1_for_what_is_smaller() -> None:
    assert summarize([*GOOD, Outcome("run-001", 1, document(claim("a", "smaller")))]).objections() == []


def test_what_was_not_done_and_nothing_at_all_are_no_pass() -> None:
    assert any("1 not done yet: run-001" in one for one in summarize(GOOD, ["tour-001", "run-001"]).objections())
    assert summarize([]).objections()


def kept(folder: Path, outcomes: list[Outcome], tours: int = 3, runs: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    asked = {"tours": tours, "runs": runs, "gotchas": [], "results": str(folder)}
    (folder / "asked.json").write_text(json.dumps(asked))
    for one in outcomes:
        stored = {"name": one.name, "exit_code": one.exit_code, "document": one.document}
        (folder / f"{one.name}.outcome.json").write_text(json.dumps(stored))
    return folder


def test_a_stored_folder_is_judged_again_without_running_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(kept(tmp_path, GOOD)) == 0
    stored = json.loads((tmp_path / "stability.json").read_text())
    assert (
        stored["stable"] and stored["verdicts"] == {"reproduced": 3, "smaller": 3} and stored["tours"]["tour-002"] == 0
    )
    assert "Stable: 3 tours" in capsys.readouterr().out and "# Stability" in (tmp_path / "stability.md").read_text()
    kept(tmp_path, [tour(2, claim("a", "reversed"), code=1)])
    assert report(tmp_path) == 1 and not json.loads((tmp_path / "stability.json").read_text())["stable"]


@pytest.mark.parametrize("text", ["", '{"name": "tour-002", "exit_code": 0, "docu', "[]", '{"name": "tour-002"}'])
def test_a_damaged_outcome_counts_as_not_done_and_is_done_again(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(tmp_path, GOOD)
    (tmp_path / "tour-002.outcome.json").write_text(text)
    assert report(tmp_path) == 1 and "1 not done yet: tour-002" in capsys.readouterr().out
    done: list[str] = []

    def keep(name: str, command: list[str], folder: Path) -> bool:
        done.append(name)
        return True

    monkeypatch.setattr(stability, "perform", keep)
    assert run_all(tmp_path, planned(3, 0), [], tmp_path) and done == ["tour-002"]


def test_what_is_no_document_of_a_run_is_none(tmp_path: Path) -> None:
    assert perform("tour-001", [sys.executable, "-c", "print('[]')"], tmp_path)
    assert read(tmp_path) == [Outcome("tour-001", 0, None, stability.version())]


def test_tours_come_first_and_in_order(tmp_path: Path) -> None:
    assert planned(2, 1) == ["tour-001", "tour-002", "run-001"]
    kept(tmp_path, [Outcome("run-001", 0, None), *reversed(GOOD)])
    assert [one.name for one in read(tmp_path)] == ["tour-001", "tour-002", "tour-003", "run-001"]


def test_a_resumed_one_does_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, list[str]]] = []

    def keep(name: str, command: list[str], folder: Path) -> bool:
        done.append((name, command))
        return True

    monkeypatch.setattr(stability, "perform", keep)
    kept(tmp_path, GOOD[:1])
    assert run_all(tmp_path, planned(2, 1), ["caching/y"], tmp_path)
    assert [name for name, _ in done] == ["tour-002", "run-001"]
    tour_command, run_command = (command for _, command in done)
    assert "tour" in tour_command and "caching/y" in run_command and "--all" not in run_command
    assert all("--json" in command and str(tmp_path) in command for command in (tour_command, run_command))


def test_a_childs_document_and_exit_code_are_kept(tmp_path: Path) -> None:
    code = "import json, sys; print(json.dumps({'gotchas': []})); print('noise', file=sys.stderr); sys.exit(2)"
    assert perform("tour-001", [sys.executable, "-c", code], tmp_path)
    assert perform("tour-002", [sys.executable, "-c", "raise SystemExit(70)"], tmp_path)
    version = stability.version()
    assert read(tmp_path) == [Outcome("tour-001", 2, {"gotchas": []}, version), Outcome("tour-002", 70, None, version)]
    assert (tmp_path / "tour-001.log").read_text() == "noise\n"


def test_what_is_kept_of_a_document_gives_the_same_summary() -> None:
    whole = document(claim("a", "reproduced"), claim("b", "inconclusive", "too wide"), repeated=2, added=3, failed=1)
    whole["table"] = "x" * 10_000
    kept_of_it = stability.lean(whole)
    assert summarize([Outcome("run-001", 2, kept_of_it)]) == summarize([Outcome("run-001", 2, whole)])
    assert len(json.dumps(kept_of_it)) < len(json.dumps(whole)) / 5 and stability.lean(None) is None
    assert stability.lean({**whole, "partial": True})["partial"] is True  # type: ignore[index]


def test_outcomes_of_several_versions_are_told_apart() -> None:
    outcomes = [Outcome("tour-001", 0, document(), "aaa"), Outcome("tour-002", 0, document(), "bbb-dirty")]
    outcomes.append(Outcome("tour-003", 0, document(), "bbb-dirty"))
    told = "\n".join(lines(summarize(outcomes)))
    assert "By version of the lab: aaa: tour-001; bbb-dirty: 2 (tour-002 to tour-003)" in told
    assert "unknown: tour-001" in "\n".join(lines(summarize([Outcome("tour-001", 0, document())])))


def test_ctrl_c_ends_the_child_keeps_what_is_done_and_can_be_resumed(tmp_path: Path) -> None:
    """The script itself, with a child that waits for Ctrl-C in place of the lab."""
    child = tmp_path / "child.py"
    child.write_text(
        "import pathlib, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
        f"open({str(tmp_path / 'fifo')!r}, 'w').close()\n"
        "signal.sigwait({signal.SIGINT})\n"
        f"pathlib.Path({str(tmp_path / 'asked-to-end')!r}).touch()\n"
        "sys.exit(130)\n"
    )
    os.mkfifo(tmp_path / "fifo")
    folder = kept(tmp_path / "stability", GOOD[:1], tours=2)
    script = (
        "import sys; from scripts import stability\n"
        f"stability.command_of = lambda name, gotchas, results: [sys.executable, {str(child)!r}]\n"
        f"sys.argv = ['stability', '--resume', {str(folder)!r}]\nsys.exit(stability.main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        with (tmp_path / "fifo").open():  # returns when the child is up
            pass
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # the child too: it waits for a signal that did not come
    assert process.returncode == 130 and "--resume" in errors
    assert (tmp_path / "asked-to-end").exists()
    assert [one.name for one in read(folder)] == ["tour-001"]
    assert not json.loads((folder / "stability.json").read_text())["stable"], "one is missing"


def test_it_starts_as_a_plain_script(tmp_path: Path) -> None:
    kept(tmp_path, GOOD)
    command = [sys.executable, str(ROOT / "scripts" / "stability.py"), "--report", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "Stable" in done.stdout, done.stderr
    nothing = subprocess.run([*command[:-1], str(tmp_path / "none")], capture_output=True, text=True, timeout=300)
    assert nothing.returncode == 1 and "no stability folder" in nothing.stderr and "Traceback" not in nothing.stderr
