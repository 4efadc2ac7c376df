"""Scale of the analysis: a stored run of ten million samples is judged and reported; time, memory and bytes on disk are printed.

``uv run benchmarks/analysis_scale.py [SAMPLES]``.  The run is made up (a queue at 70 % load), the path from the files on is the real one.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a script, it would not find the lab

import numpy as np
from numpy.typing import NDArray

from lab.model import SAMPLE_COLUMNS, Chart, Claim, Condition, OpenLoad
from lab.run.plan import make_plan
from lab.store import RunFolder, new_run, write_samples
from lab.words.metrics import Notation
from lab.words.record import GeneratorSeen, TrialRecord
from tests.fakes import START_NS, gotcha_plan

SAMPLES = 10_000_000
PAIRS = 8
CONDITIONS = 2
SERVICE_S = 0.0005
LIMIT_S, LIMIT_BYTES, LIMIT_MB_PER_MILLION = 15.0, 2 * 1024**3, 40.0


def queue_rows(count: int, seed: int) -> NDArray[np.int64]:
    """Rows of a trial whose server is a queue; times as irregular as real ones, so that they compress no better."""
    draw = np.random.default_rng(seed)
    gaps = draw.exponential(SERVICE_S / 0.7, count)
    service = draw.exponential(SERVICE_S, count)
    walk = np.concatenate([[0.0], np.cumsum(service[:-1] - gaps[1:])])
    took = walk - np.minimum.accumulate(walk) + service
    rows = np.zeros((count, len(SAMPLE_COLUMNS)), dtype=np.int64)
    planned = START_NS + (np.cumsum(gaps) * 1e9).astype(np.int64)
    dispatched = planned + draw.integers(20_000, 120_000, count)
    sent = dispatched + draw.integers(5_000, 20_000, count)
    done = sent + (took * 1e9).astype(np.int64)
    columns: dict[str, object] = {
               "planned_ns": planned, "dispatched_ns": dispatched, "sent_ns": sent, "first_byte_ns": done - 15_000,
               "done_ns": done, "status": 200, "bytes": draw.integers(200, 900, count), "level": -1, "pid": 4242, "reused": 1}  # fmt: skip
    for name, values in columns.items():
        rows[:, SAMPLE_COLUMNS.index(name)] = np.asarray(values)
    return rows


def make_run(results: Path, samples: int) -> RunFolder:
    """A stored run of that many samples: two conditions, eight pairs, two arms."""
    each = samples // (PAIRS * 2 * CONDITIONS)
    seconds = each * SERVICE_S / 0.7
    conditions = tuple(
        Condition(f"cell {n}", OpenLoad(0.7 / SERVICE_S), duration_s=seconds, params={"n": n})
        for n in range(CONDITIONS)
    )
    claims = tuple(
        Claim(
            f"c{metric}",
            "harm",
            metric,
            Notation(f"naive.{metric} / correct.{metric}"),
            lambda c: 1.0,
            formula="1",
            source="made up",
            null=1.0,
        )
        for metric in ("latency_p50_s", "latency_p99_s", "latency_p999_s", "throughput_rps", "service_mean_s")
    )
    charts = tuple(Chart(kind, "latency", kind, conditions=("cell 0",)) for kind in ("percentiles", "ecdf", "timeline"))
    plan = make_plan(
        "scale", "2000-01-01", (gotcha_plan(*claims, conditions=conditions, charts=charts),), "full", 1, PAIRS
    )
    run = new_run(results, "scale")
    run.write_plan(plan)
    for number, trial in enumerate(plan.trials):
        folder = run.trial(trial.gotcha, trial.condition, trial.pair, trial.variant)
        folder.path.mkdir(parents=True)
        write_samples(folder.path / "samples.parquet", queue_rows(each, number))
        folder.write(TrialRecord(
            trial.gotcha, trial.condition, trial.pair, trial.variant, trial.seed, "ok", load_started_ns=START_NS,
            load_ended_ns=START_NS + int(seconds * 1e9), request_names=("GET /",), server_pids=(4242,),
            generator=GeneratorSeen(each, each, 0, (0.2,) * 8, 0.0005, 0.002, "x"),
        ))  # fmt: skip
    return run


def main() -> None:
    """Make the run in this process, judge and report it in another, and say what that took."""
    if len(sys.argv) == 3:  # the child
        from analysis.finish import finish

        finish(RunFolder(Path(sys.argv[2])))
        return
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), samples)
        stored = sum(path.stat().st_size for path in run.path.rglob("*.parquet"))
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "benchmarks.analysis_scale", "judge", str(run.path)], check=True)
        took = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    per_million = stored / 1e6 / (samples / 1e6)
    print(f"{samples:,} samples: judged and reported in {took:.1f} s (limit {LIMIT_S:.0f} at ten million), "
          f"{peak / 1024**2:.0f} MB resident (limit 2,048), {per_million:.1f} MB on disk per million (limit {LIMIT_MB_PER_MILLION:.0f})")  # fmt: skip
    if samples >= SAMPLES and (took > LIMIT_S or peak > LIMIT_BYTES or per_million > LIMIT_MB_PER_MILLION):
        sys.exit(1)


if __name__ == "__main__":
    main()
