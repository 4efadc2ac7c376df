"""The command line as a user meets it: exit codes, one JSON document, the next step."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

import bench as cli
from lab.cli import measuring, options, output

ROOT = Path(__file__).resolve().parent.parent


def bench(*arguments: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "bench.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )


@pytest.mark.parametrize("arguments", [
    ("run", "ofset_pagination"), ("run",), ("frobnicate",), ("run", "--pairs", "many"), ("list", "--topic", "cooking"),
    ("run", "offset_pagination", "--server", "apache"), ("verdict", "no-such-run"), ("new", "caching"), ("new", "cooking/soup"),
    ("serve", "offset_pagination", "mended"), ("compare", "offset_pagination", "--packages", "fastapi>=0.117"),
    ("compare", "offset_pagination", "--workers", "two"), ("diff", "published", "published", "--fail-on", "anything"),
])  # fmt: skip
def test_bad_arguments_exit_64_with_one_error_and_a_next_step(arguments: tuple[str, ...]) -> None:
    done = bench(*arguments)
    assert done.returncode == 64
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) >= 2


@pytest.mark.parametrize(
    "command",
    [
        "list",
        "run",
        "tour",
        "compare",
        "verdict",
        "diff",
        "report",
        "publish",
        "serve",
        "services",
        "doctor",
        "selftest",
        "new",
    ],
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


def test_json_has_no_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    output.out({"measured": math.inf, "low": -math.inf, "nothing": math.nan, "rows": ({"values": (1.0, math.inf)},)})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    document = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert document == {"measured": "never", "low": "-never", "nothing": None, "rows": [{"values": [1.0, "never"]}]}


BROKEN = """
import sys, bench
class Broken:
    def __init__(self):
        raise RuntimeError("connection to postgresql://me:hunter2@db/x\\nfailed")
import lab.cli.catalogue
lab.cli.catalogue.Catalog = Broken
sys.argv = ["bench.py", "list"]
bench.main()
"""


def test_an_error_of_the_lab_itself_is_one_line_without_passwords_and_a_next_step() -> None:
    environment = {name: value for name, value in os.environ.items() if name != cli.TRACEBACK}
    command = [sys.executable, "-c", BROKEN]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 70 and done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith("error: the lab itself broke: RuntimeError: connection to postgresql://***@db/x failed (")
    assert "kept" in second and "Traceback" not in done.stderr
    whole = subprocess.run(
        command, cwd=ROOT, env={**environment, cli.TRACEBACK: "1"}, capture_output=True, text=True, timeout=300
    )
    assert "Traceback" in whole.stderr and "hunter2" not in whole.stderr


TOLD_TO_END = """
import os, signal, sys, bench
def told(**options):
    try:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        signal.sigtimedwait([], 0)
    finally:
        print("left in order")
bench.app = told
bench.main()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_what_a_service_manager_sends_is_ctrl_c(name: str) -> None:
    command = [
        "env",
        f"--default-signal={name.removeprefix('SIG')}",
        sys.executable,
        "-c",
        TOLD_TO_END,
        name,
    ]  # tests may run under nohup
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (130, "left in order\n"), done.stderr


def test_a_hang_up_that_is_ignored_stays_ignored() -> None:
    command = ["nohup", sys.executable, "-c", TOLD_TO_END, "SIGHUP"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, "left in order\n"), done.stderr


def test_pages_that_cannot_be_drawn_do_not_take_the_verdicts_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import analysis.finish
    import lab.commands.session

    folder = SimpleNamespace(name="r", path=tmp_path)
    session = SimpleNamespace(folder=folder, interrupted=False, done=1, total=1)
    finished = SimpleNamespace(document={"run": "r"}, table="the verdicts", exit_code=0)

    def break_down(folder: Any) -> Path:
        raise ValueError("no such colour")

    monkeypatch.setattr(lab.commands.session, "measure", lambda *hooks: session)
    monkeypatch.setattr(analysis.finish, "judge_again", lambda folder, colored: finished)
    monkeypatch.setattr(analysis.finish, "draw_pages", break_down)
    for as_json in (True, False):
        with pytest.raises(typer.Exit) as ended:
            measuring._measure(None, as_json)
        seen = capsys.readouterr()
        assert (
            ended.value.exit_code == options.EXIT_BROKEN
            and "no such colour" in seen.err
            and "bench.py report r" in seen.err
        )
        assert json.loads(seen.out) == {"run": "r"} if as_json else "the verdicts" in seen.out


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_benchmarks_find_the_lab_from_anywhere(path: Path, tmp_path: Path) -> None:
    code = f"import runpy; runpy.run_path({str(path)!r}, run_name='not main')"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


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
    deadline = time.monotonic() + 300  # how long this takes says nothing: it only ends a test that hangs
    while (
        not list(tmp_path.glob("*/trials/*/*/*/trial.json")) and process.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
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
        from lab.observe.probes import send

        assert send(facts["url"], "GET", "/openapi.json").status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=300)
    assert process.returncode == 0


def test_list_loads_nothing_that_only_a_run_needs() -> None:
    """0.3 s: each of these takes a third of that or more."""
    heavy = {"pydantic", "pandas", "numpy", "scipy", "fastapi", "locust", "gevent", "matplotlib", "rich", "sqlalchemy"}
    code = (
        "import runpy, sys\nsys.argv = ['bench.py', 'list']\n"
        "try:\n    runpy.run_path('bench.py', run_name='__main__')\nexcept SystemExit:\n    pass\n"
        f"print('loaded:', sorted({{name.split('.')[0] for name in sys.modules}} & {heavy!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "loaded: []" in done.stdout, done.stderr
