"""The counter of compared paths, in a child: it replaces a function of Starlette for the whole process."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APP = """
from fastapi import FastAPI

app = FastAPI(openapi_url=None)
for name in "abcd":
    app.get(f"/{name}/{{item}}")(lambda item: item)
"""
ASK = """
import json, tempfile
from pathlib import Path
from lab.target.inside.asgi import Observed, load_app

app = Observed(load_app("counted_app:app"), Path(tempfile.mkdtemp()))
from fastapi.testclient import TestClient

client = TestClient(app)
seen = [client.get(path).headers.get("x-lab-matches") for path in ("/a/1", "/d/1", "/d/1", "/e/1")]
print(json.dumps(seen))
"""


def counts(folder: Path, env: dict[str, str]) -> list[str | None]:
    (folder / "counted_app.py").write_text(APP)
    path = os.pathsep.join([str(ROOT), str(folder)])
    child_env = {**os.environ, **env, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, timeout=300, env=child_env)
    assert done.returncode == 0, done.stderr
    found: list[str | None] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_compared_path_is_counted_for_its_own_request(tmp_path: Path) -> None:
    # four paths one after the other; an unknown one is compared twice, the second time with a slash at its end
    assert counts(tmp_path, {"LAB_OBSERVERS": "matches"}) == ["1", "4", "4", "8"]


def test_nothing_is_counted_where_nobody_asks(tmp_path: Path) -> None:
    assert counts(tmp_path, {}) == [None, None, None, None]
