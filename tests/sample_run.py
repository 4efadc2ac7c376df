"""A stored run as the lab leaves it, made from formulas: for the tests of charts, report and pages.

Three gotchas: a blocked loop (sweep, percentiles, ecdf, timeline, cpu, heatmap), a limiter with levels (counts, scaling), and one whose
every text is hostile (a title that is a script tag).  Numbers are exact, so that tests can say what a chart must show.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.model import (
    ClaimVerdict,
    ConditionVerdict,
    Doubt,
    Estimate,
    GateResult,
    GotchaVerdict,
    PairValues,
    RunVerdicts,
    Seen,
    VerdictName,
)
from analysis.statistics import of_ratios, of_values
from lab.model import (
    SAMPLE_COLUMNS,
    BeforeAfter,
    Chart,
    ClaimPlan,
    ClosedLoad,
    Condition,
    Explained,
    GotchaPlan,
    MetricExpression,
    RunPlan,
    Server,
    TrialPlan,
)
from lab.store import RunFolder, write_bytes, write_samples, write_server_rows
from lab.words.codec import to_json
from lab.words.record import SERVER_COLUMNS, Environment, EventSeen, GeneratorSeen, PlanSeen, ProcessUse, TrialRecord

PAIRS = 3
CALL_S = 0.05
LOAD_S = 2.0
BEGAN_NS = 5_000_000_000
HOSTILE = "<script>alert(1)</script>"
HOSTILE_TEXT = "<img src=x onerror=alert(2)> & \"quoted\" 'text'"
BLOCKED, LIMITER, EVIL = "event_loop/blocked_loop", "api_design/deep_pages", "caching/evil_words"
NAIVE = '''"""Blocks the loop."""

import time

from fastapi import FastAPI

CALL_S = 0.05

app = FastAPI()


@app.get("/answer")
async def answer() -> dict[str, int]:
    time.sleep(CALL_S)  # blocks: nothing else runs
    return {"value": 42}
'''
README = """# Blocked loop

<!-- measured: begin (made by bench.py publish, do not edit) -->
<!-- measured: end -->

One sentence: the loop stands still. <b>HTML is text here</b>.

## Am I affected?

`time.sleep` in an `async def`; see [the naive file](naive.py) and [the docs](https://fastapi.tiangolo.com/async/).

## The mistake

```python
time.sleep(1)
```

## Why it hurts

One loop, one request: X = 1 / T.

## The fix

Await it.

## When the naive version is fine

With one user.

## Try it

    uv run bench.py run blocked_loop

## Neighbours

None.

## Sources

- FastAPI documentation, "Concurrency and async / await".
"""


@dataclass(frozen=True)
class Sample:
    """The stored run, the project whose targets it measured, and what was written."""

    run: RunFolder
    root: Path
    plan: RunPlan
    verdicts: RunVerdicts

    def gotcha(self, slug: str) -> GotchaVerdict:
        return next(one for one in self.verdicts.gotchas if one.gotcha == slug)


# ---------------------------------------------------------------- plans


def _claim(
    claim_id: str, kind: Any, metric: str, predictions: Mapping[str, float], headline: str, **more: Any
) -> ClaimPlan:
    options: dict[str, Any] = {"relation": "about", "tolerance": 0.1, "null": None, "formula": "W / T"}
    options.update({"statement": f"{claim_id.replace('_', ' ')} as predicted", "source": "a queue with one server"})
    options.update(more)
    return ClaimPlan(claim_id, kind, metric=metric, headline=headline, predictions=predictions, **options)


def _gotcha(
    slug: str, title: str, conditions: Sequence[Condition], claims: Sequence[ClaimPlan], charts: Sequence[Chart], **more: Any
) -> GotchaPlan:  # fmt: skip
    options: dict[str, Any] = {
        "claim": "One loop that blocks for T is a single server", "parts": (2, 7), "catalogue_ids": ("as-blocking-async",),
        "variants": ("naive", "correct"), "services": (), "probes": (), "answer": "", "constants": {}, "queries": {}, "final_reads": (),
        "explained": (), "contract_differs": "", "disagrees_with_source": "", "quick_pairs": PAIRS, "full_pairs": 8,
        "content_hash": "0" * 12,
    }  # fmt: skip
    options.update(more)
    return GotchaPlan(
        slug=slug, title=title, conditions=tuple(conditions), claims=tuple(claims), charts=tuple(charts), **options
    )


def blocked_plan() -> GotchaPlan:
    """Users 1, 10, 50 on 1 and 2 workers; naive serves W / T, correct users / T."""
    conditions = [
        Condition(f"{users} users on {workers}", ClosedLoad(users), LOAD_S, server=Server(workers=workers),
                  params={"users": users, "workers": workers}, control=users == 1)
        for workers in (1, 2) for users in (1, 10, 50)
    ]  # fmt: skip
    one = {c.key: 1 / CALL_S for c in conditions if c.workers == 1}
    many = {c.key: c.number("users") / CALL_S for c in conditions if c.workers == 1}
    labels = tuple(c.label for c in conditions if c.workers == 1)
    claims = [
        _claim("blocked", "harm", "naive.throughput_rps", one, "10-users-on-1"),
        _claim("lag", "mechanism", "naive.loop_lag_max_s", dict.fromkeys(one, CALL_S), "10-users-on-1", relation="at_least"),
        _claim("awaited", "fix", "correct.throughput_rps", many, "10-users-on-1"),
        _claim("gain", "harm", "correct.throughput_rps / naive.throughput_rps", {"10-users-on-1": 10.0}, "10-users-on-1", null=1.0),
        _claim("cost", "tax", "correct.cpu_server_s_per_request / naive.cpu_server_s_per_request", {"1-users-on-1": 1.5},
               "1-users-on-1", relation="at_most", null=1.0),
    ]  # fmt: skip
    charts = [
        Chart("sweep", "throughput_rps", "Blocked: {blocked:.0f}/s, awaited: {awaited:.0f}/s", x="users", conditions=labels,
              y_label="answers per second", theory=("blocked", "awaited")),
        Chart("timeline", "loop_lag_max_s", "The loop stands still for {lag:.2f} s", conditions=("10 users on 1",)),
        Chart("percentiles", "latency_p99_s", "Blocked users wait for each other", conditions=("50 users on 1",)),
        Chart("ecdf", "latency", "Every one waits", conditions=("10 users on 1",), log_x=True),
        Chart("cpu", "cpu_s_per_request", "The fix costs CPU", conditions=("1 users on 1",)),
        Chart("heatmap", "throughput_rps", "Workers help the naive one", x="users,workers"),
    ]  # fmt: skip
    return _gotcha(
        BLOCKED, "A blocked loop", conditions, claims, charts,
        answer="With ten users the blocking call serves {blocked:.0f}/s, awaited {awaited:.0f}/s.",
        disagrees_with_source="Nothing is lost silently: the loop says so.",
        before_after=BeforeAfter("throughput_rps", "answers per second", "10 users on 1", "Ten users call a route that blocks."),
        labels={"naive": "blocking", "correct": "awaited"},
    )  # fmt: skip


LEVELS = {"first": 0, "middle": 500, "deep": 1000, "deeper": 2000, "deepest": 4000}


def pages_plan() -> GotchaPlan:
    """Rows visited by level, and counts under two conditions."""
    conditions = [
        Condition("nothing moves", ClosedLoad(1), LOAD_S, control=True),
        Condition("7 inserts a page", ClosedLoad(1), LOAD_S),
    ]
    claims = [
        _claim("rows_deep", "mechanism", "naive.plan_rows_visited[deep]", {"nothing-moves": 1050.0}, "nothing-moves", tolerance=0.0),
        _claim("duplicates", "harm", "naive.observed[duplicates]", {"nothing-moves": 0.0, "7-inserts-a-page": 35.0},
               "7-inserts-a-page", tolerance=0.0),
        _claim("none_twice", "fix", "correct.observed[duplicates]", {"nothing-moves": 0.0, "7-inserts-a-page": 0.0},
               "7-inserts-a-page", tolerance=0.0),
    ]  # fmt: skip
    charts = [
        Chart(
            "counts",
            "observed[duplicates]",
            "{duplicates:.0f} orders seen twice",
            y_label="orders seen twice",
            theory=("duplicates",),
        ),
        Chart(
            "scaling",
            "plan_rows_visited",
            "Rows grow with depth",
            x="level",
            x_label="rows before the page",
            conditions=("nothing moves",),
        ),
        Chart("sweep", "latency_at_level_s", "Time grows with depth", x="level", conditions=("nothing moves",)),
    ]
    explained = tuple(Explained(name, {}, level) for name, level in LEVELS.items())
    return _gotcha(LIMITER, "Deep pages", conditions, claims, charts, explained=explained, parts=(3, 9), catalogue_ids=("pg-offset-100k",),
                   answer="{duplicates:.0f} orders are seen twice.")  # fmt: skip


def evil_plan() -> GotchaPlan:
    """Every text of it tries to become markup."""
    condition = Condition(f"1 user {HOSTILE}", ClosedLoad(1), LOAD_S, params={"name": HOSTILE_TEXT})
    claims = [
        _claim("evil", "harm", "naive.throughput_rps", {condition.key: 20.0}, condition.key, statement=HOSTILE,
               formula=HOSTILE_TEXT, source=HOSTILE)
    ]  # fmt: skip
    charts = [
        Chart("counts", "throughput_rps", f"{HOSTILE} {{evil:.0f}}", y_label=HOSTILE_TEXT),
        Chart("no_such_kind", "x", HOSTILE),
    ]
    return _gotcha(EVIL, HOSTILE, [condition], claims, charts, claim=HOSTILE_TEXT, parts=(5,), catalogue_ids=("ca-stampede",),
                   answer=HOSTILE_TEXT, disagrees_with_source=HOSTILE, contract_differs=HOSTILE)  # fmt: skip


# ---------------------------------------------------------------- trials


def service_s(variant: str, condition: Condition) -> float:
    """How long every request takes: a blocked worker serves its users one after the other."""
    users = condition.load.users if isinstance(condition.load, ClosedLoad) else 1
    return CALL_S * users / min(condition.workers, users) if variant == "naive" else CALL_S


def samples(variant: str, condition: Condition, pair: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Users in a loop without think time; times rise by 1 % per pair, and the last request of all is never answered."""
    users = condition.load.users if isinstance(condition.load, ClosedLoad) else 1
    took = round(service_s(variant, condition) * (1 + 0.01 * pair) * 1e9)
    rows = []
    for user in range(users):
        at, n = BEGAN_NS + user * 1_000, 0
        while at + took < BEGAN_NS + LOAD_S * 1e9:
            level = list(LEVELS.values())[n % len(LEVELS)]
            extra = level * 1_000 if variant == "naive" else 0
            rows.append(
                (
                    at,
                    at,
                    at + 10_000,
                    at + took,
                    at + took + extra,
                    200,
                    120,
                    0,
                    level,
                    4000 + user % condition.workers,
                    0,
                    1,
                )
            )
            at, n = at + took + extra, n + 1
    rows.append((at, at, at + 10_000, 0, 0, 0, 0, 0, -1, 0, 5, 1))
    matrix = np.array(rows, dtype=np.int64)
    assert matrix.shape[1] == len(SAMPLE_COLUMNS)
    return matrix


def server_rows(variant: str, condition: Condition) -> list[bytes]:
    """A row per worker and 100 ms: the loop is late by the call where it blocks."""
    lag = round(CALL_S * 1e9) if variant == "naive" else 1_000_000
    late = lag + 5_000_000
    ticks = [late, *[5_000_000] * ((100_000_000 - late) // 5_000_000), (100_000_000 - late) % 5_000_000]
    rows = [
        {
            "start_ns": BEGAN_NS + (step - 1) * 100_000_000, "t_ns": BEGAN_NS + step * 100_000_000, "pid": 4000 + worker, "requests": step * 2,
            "answered": step * 2, "in_flight": 1, "loop_lag_max_ns": lag, "gc_pause_ns": step * 10_000, "cpu_ns": step * 5_000_000,
            "pool_checked_out": 1, **{f"tick_{i:02}_ns": span for i, span in enumerate(ticks)},
        }
        for worker in range(condition.workers) for step in range(1, 21)
    ]  # fmt: skip
    return [np.array([row.get(name, 0) for name in SERVER_COLUMNS], dtype=np.int64).tobytes() for row in rows]


def record(plan: GotchaPlan, trial: TrialPlan) -> TrialRecord:
    """What the lab would have written beside the samples."""
    condition = plan.condition(trial.condition)
    events: tuple[EventSeen, ...] = ()
    if plan.slug == BLOCKED:
        events = (
            EventSeen("worker killed", "kill", BEGAN_NS + 500_000_000),
            EventSeen("started", "start", BEGAN_NS + 900_000_000),
        )
    plans: tuple[PlanSeen, ...] = ()
    if plan.explained:
        rows = {name: level + 50 if trial.variant == "naive" else 50 for name, level in LEVELS.items()}
        plans = tuple(
            PlanSeen(name, LEVELS[name], "SELECT", rows[name], 50, rows[name] // 10, ("Limit",)) for name in LEVELS
        )
    answered = len(samples(trial.variant, condition, trial.pair)) - 1
    cost = 1_000_000 if trial.variant == "naive" else 1_200_000
    processes = {
        "server": ProcessUse(answered * cost, 60_000_000, 1),
        "generator": ProcessUse(answered * 200_000, 50_000_000, 1),
    }
    return TrialRecord(
        trial.gotcha, trial.condition, trial.pair, trial.variant, trial.seed, "ok", started_at="2026-11-23T20:00:00Z",
        load_started_ns=BEGAN_NS, load_ended_ns=BEGAN_NS + round(LOAD_S * 1e9), request_names=("answer",), server_pids=(4000,),
        loop="uvloop", http="httptools", observed={"duplicates": _duplicates(trial)}, processes=processes, plans=plans, events=events,
        activity_series=tuple((BEGAN_NS + i * 20_000_000, 5 + i % 3, 2, 3, 0) for i in range(100)),
        generator=GeneratorSeen(answered + 1, answered + 1, 0, (0.1, 0.1), 0.001, 0.002, "0" * 16), versions={"fastapi": "0.165.0"},
    )  # fmt: skip


def _duplicates(trial: TrialPlan) -> float:
    return 35.0 if trial.variant == "naive" and trial.condition.startswith("7-inserts") else 0.0


# ---------------------------------------------------------------- verdicts


def metric_values(plan: GotchaPlan, condition: Condition, variant: str) -> dict[str, tuple[float, ...]]:
    """Per-pair values of what the claims and charts read; 1 % slower from pair to pair."""
    users = condition.load.users if isinstance(condition.load, ClosedLoad) else 1
    took = service_s(variant, condition)
    spread = [1 + 0.01 * pair for pair in range(PAIRS)]
    cost = 0.001 if variant == "naive" else 0.0012
    return {
        "throughput_rps": tuple(users / (took * s) for s in spread),
        "latency_p50_s": tuple(took * s for s in spread),
        "loop_lag_max_s": (CALL_S if variant == "naive" else 0.001,) * PAIRS,
        "cpu_server_s_per_request": (cost,) * PAIRS,
        "error_share": (0.0,) * PAIRS,
        "observed[duplicates]": (_duplicates(TrialPlan(plan.slug, condition.key, 0, variant, 0)),) * PAIRS,
        "plan_rows_visited[deep]": (1050.0 if variant == "naive" else 50.0,) * PAIRS,
    }


def _estimate(metrics: Mapping[str, Mapping[str, tuple[float, ...]]], expression: MetricExpression) -> Estimate:
    tops = metrics[expression.numerator.variant][str(expression.numerator).partition(".")[2]]
    if expression.denominator is None:
        return of_values(tops)
    bottoms = metrics[expression.denominator.variant][str(expression.denominator).partition(".")[2]]
    return of_ratios([top / bottom for top, bottom in zip(tops, bottoms, strict=True)])


def verdict_of(plan: GotchaPlan, verdict: VerdictName) -> GotchaVerdict:
    """Every claim measured, all of them with the verdict that is asked for."""
    metrics = {c.key: {v: metric_values(plan, c, v) for v in plan.variants} for c in plan.conditions}
    claims = []
    for claim in plan.claims:
        expression = MetricExpression.parse(claim.metric)
        rows = tuple(
            ConditionVerdict(key, value, _estimate(metrics[key], expression), verdict, "inside the tolerance", PAIRS)
            for key, value in claim.predictions.items()
        )
        unit = (
            "x"
            if expression.denominator
            else {"throughput_rps": "requests/s", "loop_lag_max_s": "s"}.get(expression.numerator.metric, "")
        )
        claims.append(ClaimVerdict(
            claim.id, claim.kind, claim.statement, claim.metric, unit, claim.formula, claim.source, claim.relation, claim.tolerance,
            verdict, claim.headline, rows, indicative=True,
        ))  # fmt: skip
    gates = tuple(
        GateResult(
            gate,
            c.key,
            passed,
            0.1,
            0.8,
            f"{gate} detail {HOSTILE if plan.slug == EVIL else ''}",
            "close other programs",
        )
        for c in plan.conditions
        for gate, passed in (("G3", True), ("G4", plan.slug != EVIL), ("G1", None))
    )
    from analysis.answers import render_template

    doubts = (
        Doubt(
            "quick_run",
            f"A quick run. {HOSTILE if plan.slug == EVIL else ''}",
            None,
            "Run with --full.",
            plan.conditions[0].key,
        ),
    )
    failed = (HOSTILE_TEXT,) if plan.slug == EVIL else ()
    regime = {"server": "uvicorn", "cores": "2", "mode": "quick", "note": HOSTILE if plan.slug == EVIL else "none"}
    return GotchaVerdict(
        plan.slug,
        plan.title,
        verdict,
        render_template(plan.answer, claims),
        regime,
        tuple(claims),
        gates,
        doubts,
        metrics,
        failed,
        _seen(plan, metrics),
    )


def _seen(plan: GotchaPlan, metrics: Mapping[str, Mapping[str, Mapping[str, PairValues]]]) -> Seen | None:
    """The finding in one line, from the same numbers."""
    said = plan.before_after
    if said is None:
        return None
    key = next(c.key for c in plan.conditions if c.label == said.condition)
    naive, fixed = (
        sum(v for v in metrics[key][variant][said.metric] if v is not None) / PAIRS for variant in ("naive", said.fixed)
    )
    return Seen(said.words, "requests/s", said.situation, key, naive, fixed, None, plan.label_of(said.fixed))


# ---------------------------------------------------------------- the whole run on disk


def build(folder: Path, *, with_samples: bool = True) -> Sample:
    """Write project and run below ``folder`` and return them."""
    root, run = folder / "project", RunFolder(folder / "results" / "20261123-200000-sample")
    gotchas = (blocked_plan(), pages_plan(), evil_plan())
    trials = tuple(
        TrialPlan(g.slug, c.key, pair, variant, 7)
        for g in gotchas
        for c in g.conditions
        for pair in range(PAIRS)
        for variant in g.variants
    )
    plan = RunPlan(run.name, "quick", 20261123, "2026-11-23T20:00:00+00:00", gotchas, trials, PAIRS)
    run.path.mkdir(parents=True)
    run.write_plan(plan)
    run.write_environment(Environment(
        "CPython 3.11.7", "Linux x86_64", f"Test CPU {HOSTILE}", 2, 16_000_000_000, {"lab": (0, 1)}, {"fastapi": "0.165.0"},
        {"postgres": "PostgreSQL 18.6"}, {"open files": "1024"}, {"load1": 0.1},
    ))  # fmt: skip
    verdicts = RunVerdicts(
        run.name,
        (verdict_of(gotchas[0], "reproduced"), verdict_of(gotchas[1], "smaller"), verdict_of(gotchas[2], "invalid")),
    )
    write_bytes(run.derived / "verdicts.json", to_json(verdicts))
    for trial in trials if with_samples else ():
        at = run.trial(trial.gotcha, trial.condition, trial.pair, trial.variant)
        condition = plan.gotcha(trial.gotcha).condition(trial.condition)
        write_samples(at.path / "samples.parquet", samples(trial.variant, condition, trial.pair))
        write_server_rows(at.path / "server.parquet", server_rows(trial.variant, condition))
        at.write(record(plan.gotcha(trial.gotcha), trial))
    for gotcha in gotchas:
        target = root / "targets" / gotcha.slug
        target.mkdir(parents=True)
        evil = HOSTILE if gotcha.slug == EVIL else ""
        (target / "README.md").write_text(README.replace("One sentence", f"{evil} One sentence"))
        (target / "naive.py").write_text(NAIVE + (f"# {HOSTILE}\n" if evil else ""))
        (target / "correct.py").write_text(
            NAIVE.replace("import time", "import asyncio").replace("time.sleep(CALL_S)", "await asyncio.sleep(CALL_S)")
        )
    return Sample(run, root, plan, verdicts)
