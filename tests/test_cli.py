"""The command line as a user meets it: exit codes, one JSON document, the next step."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def bench(*arguments: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "bench.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )


@pytest.mark.parametrize("arguments", [
    ("run", "ofset_pagination"), ("run",), ("frobnicate",), ("run", "--pairs", "many"), ("list", "--topic", "cooking"),
    ("run", "offset_pagination", "--server", "apache"), ("verdict", "no-such-run"), ("new", "caching"), ("new", "cooking/soup"),
    ("serve", "offset_pagination", "mended"),
])  # fmt: skip
def test_bad_arguments_exit_64_with_one_error_and_a_next_step(arguments: tuple[str, ...]) -> None:
    done = bench(*arguments)
    assert done.returncode == 64
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) >= 2


@pytest.mark.parametrize(
    "command", ["list", "run", "tour", "verdict", "report", "serve", "services", "doctor", "selftest", "new"]
)
def test_every_command_has_help_and_json(command: str) -> None:
    done = bench(command, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout


def test_list_json_is_one_document_with_the_promised_fields() -> None:
    document = json.loads(bench("list", "--json").stdout)
    assert document["format_version"] == 1
    fields = {
        "gotcha",
        "topic",
        "parts",
        "title",
        "catalogue_ids",
        "variants",
        "claims",
        "probes",
        "services",
        "quick_s",
        "full_s",
    }
    for row in document["gotchas"]:
        assert fields <= set(row)
        assert row["quick_s"] <= row["full_s"]


def test_an_unknown_gotcha_suggests_the_nearest() -> None:
    assert "offset_pagination" in bench("run", "offset_paginaton").stderr


@pytest.mark.services
def test_a_run_gives_a_document_a_report_and_the_verdicts_exit_code(tmp_path: Path) -> None:
    done = bench(
        "run", "in-process-limiter", "--pairs", "1", "--json", "--quiet", "--results", str(tmp_path), timeout=300
    )
    assert done.returncode in (0, 1, 2), done.stderr
    document = json.loads(done.stdout)
    (gotcha,) = document["gotchas"]
    claims = {claim["id"]: claim for claim in gotcha["claims"]}
    counted = [claim for claim in claims.values() if claim["predicted"] == 400]
    assert counted and all(claim["measured"] == 400 for claim in counted)
    (run,) = tmp_path.glob("*/plan.json")
    assert (run.parent / "derived" / "report" / "index.html").is_file()
    again = bench("verdict", str(run.parent), "--json")
    assert json.loads(again.stdout)["gotchas"][0]["claims"] == gotcha["claims"]


@pytest.mark.services
def test_ctrl_c_keeps_what_was_measured_and_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "bench.py", "run", "in-process-limiter", "--results", str(tmp_path)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/trials/*/*/*/trial.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 130, errors
    assert "are kept" in errors
    for path in tmp_path.glob("*/trials/*/*/*/trial.json"):
        json.loads(path.read_text())
    assert _descendants_with(str(tmp_path)) == []


def _descendants_with(text: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line and "pytest" not in line:
            found.append(line)
    return found


@pytest.mark.services
def test_serve_prints_one_line_and_answers_until_it_is_told_to_stop() -> None:
    command = [sys.executable, "bench.py", "serve", "offset_pagination", "correct", "--port", "0", "--json"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        facts = json.loads(process.stdout.readline())
        assert {"url", "pids", "postgres_url", "redis_url"} <= set(facts)
        from lab.probes import send

        assert send(facts["url"], "GET", "/openapi.json").status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
