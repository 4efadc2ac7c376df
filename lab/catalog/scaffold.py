"""``bench.py new``: a pair and a scenario that already run, to be edited."""

import re
from pathlib import Path

from lab.store import ROOT
from lab.words.errors import UsageError

TOPICS = (
    "lifecycle", "event_loop", "gil", "internals", "api_design", "rate_limiting", "caching",
    "background_work", "auth", "connection_pool", "api_contracts",
)  # fmt: skip

README = """# {title}

<!-- measured: begin (made by bench.py publish, do not edit) -->
<!-- measured: end -->

## Am I affected?

Symptoms as one sees them: log lines and error texts in full, and a command that shows it in your own system.

## The mistake

```python
time.sleep(CALL_S)  # the few lines that matter
```

## Why it hurts

The mechanism, with the formula that predicts how much.

## The fix

```python
await asyncio.sleep(CALL_S)
```

What it guarantees, what it survives, what it costs, and the libraries that do it.

## When the naive version is fine

The conditions under which it does not matter.

## Try it

    uv run bench.py run {slug}

## Neighbours

Related gotchas, and whether one's fix is another's harm.

## Sources

- Who says so.
"""

TARGET = '''"""{docstring}"""

import asyncio{more_import}

from fastapi import FastAPI
from pydantic import BaseModel

WORK_S = 0.02

app = FastAPI()


class Answer(BaseModel):
    """What the route returns."""

    value: int


@app.get("/answer")
async def answer() -> Answer:
    """Work for WORK_S, then answer."""
    {line}
    return Answer(value=42)
'''

SCENARIO = '''"""The theory: one loop that blocks for S is a single server, so N users share 1/S; awaited, they get N/S."""

from locust import task

from lab.generator.users import LabUser
from lab.model import Chart, Claim, ClosedLoad, Condition, Probe, Scenario
from lab.words.metrics import correct, each, naive

WORK_S = 0.02  # seconds; WORK_S in both targets
USERS = 10


class Caller(LabUser):
    @task
    def answer(self) -> None:
        self.get("/answer")


SCENARIO = Scenario(
    title="{title}",
    claim="One sentence that a measurement can refute",
    parts=(2,),
    catalogue_ids=(),
    constants={{"WORK_S": WORK_S}},
    conditions=(Condition("users={{}}".format(USERS), ClosedLoad(USERS), duration_s=2.0, params={{"users": USERS}}),),
    probes=(Probe("/answer", body={{"value": 42}}),),
    claims=(
        Claim(
            "naive_throughput", "harm", "naive throughput is 1/S however many users there are", naive.throughput_rps,
            predict=lambda c: 1 / WORK_S, formula="1 / S", source="single server queue",
        ),
        Claim(
            "blocked", "mechanism", "the event loop is held for a whole call", naive.loop_lag_max_s, relation="at_least",
            predict=lambda c: 0.9 * WORK_S, tolerance=0.0, formula="0.9 S", source="nothing runs while the loop is held",
        ),
        Claim(
            "correct_throughput", "fix", "correct throughput is N/S", correct.throughput_rps,
            predict=lambda c: c.number("users") / WORK_S, formula="N / S", source="Little's law", tolerance=0.15,
        ),
    ),
    charts=(
        Chart("sweep", each.throughput_rps, "Naive serves {{naive_throughput:.0f}}/s, correct {{correct_throughput:.0f}}/s",
              x="users", theory=("naive_throughput", "correct_throughput")),
    ),
    answer="Naive serves {{naive_throughput:.0f}} requests/s; correct serves {{correct_throughput:.0f}}.",
)
'''


def scaffold(name: str, root: Path = ROOT) -> list[str]:
    """Write the files of ``topic/gotcha`` and return their paths.  Raises UsageError for a bad or taken name."""
    slug = name.strip("/").lower().replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9_]*/[a-z][a-z0-9_]*", slug):
        raise UsageError(f"{name!r} is not topic/gotcha", "For example event_loop/blocking_call_in_async_route.")
    topic, gotcha = slug.split("/")
    if topic not in TOPICS:
        raise UsageError(f"there is no topic {topic!r}", f"Topics: {', '.join(TOPICS)}.")
    folder, scenario = root / "targets" / slug, root / "scenarios" / f"{slug}.py"
    if folder.exists() or scenario.exists():
        raise UsageError(f"{slug} exists already", "Choose another name, or edit it.")
    title = gotcha.replace("_", " ").capitalize()
    naive = TARGET.format(docstring="Blocks the event loop while it works.", more_import="\nimport time",
                          line="time.sleep(WORK_S)  # blocks the loop: nothing else runs meanwhile")  # fmt: skip
    naive = naive.replace("import asyncio\n", "")
    correct = TARGET.format(docstring="Gives the event loop away while it works.", more_import="",
                            line="await asyncio.sleep(WORK_S)  # gives the loop to other requests meanwhile")  # fmt: skip
    files = {
        folder / "README.md": README.format(title=title, slug=slug), folder / "naive.py": naive, folder / "correct.py": correct,
        scenario: SCENARIO.format(title=title),
    }  # fmt: skip
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [str(path.relative_to(root)) for path in files]
