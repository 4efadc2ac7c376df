"""A fake executor: trials answered from a formula, so that plan -> trials -> verdict runs in milliseconds."""

from collections.abc import Callable, Sequence

import numpy as np

from lab.model import SAMPLE_COLUMNS, Chart, Claim, ClaimPlan, ClosedLoad, Condition, GotchaPlan, Probe, TrialPlan
from lab.run.runner import Live
from lab.store import TrialFolder, write_samples
from lab.words.record import GeneratorSeen, TrialRecord

START_NS = 1_000_000_000_000


def claim_plan(claim: Claim, *conditions: Condition) -> ClaimPlan:
    """A claim registered for these conditions."""
    predictions = {c.key: value for c in conditions if (value := claim.predict(c)) is not None}
    return ClaimPlan(
        claim.id, claim.kind, claim.statement, claim.metric, claim.formula, claim.source, claim.relation, claim.tolerance,
        claim.null, list(predictions)[-1], predictions,
    )  # fmt: skip


def gotcha_plan(
    *claims: Claim, conditions: tuple[Condition, ...] = (), slug: str = "event_loop/example", title: str = "An example",
    quick_pairs: int = 3, charts: tuple[Chart, ...] = (), answer: str = "",
) -> GotchaPlan:  # fmt: skip
    """A small gotcha with two variants."""
    cells = conditions or (Condition("users=10", ClosedLoad(10), duration_s=2.0, params={"users": 10}),)
    return GotchaPlan(
        slug=slug, title=title, claim="naive is slower", parts=(2,), catalogue_ids=("as-blocking-async",),
        variants=("naive", "correct"), services=(), conditions=cells,
        claims=tuple(claim_plan(claim, *cells) for claim in claims), charts=charts, probes=(Probe("/"),), answer=answer, constants={},
        queries={}, final_reads=(), explained=(), contract_differs="", disagrees_with_source="", quick_pairs=quick_pairs,
        full_pairs=8, content_hash="0",
    )  # fmt: skip


class FakeExecutor:
    """Every variant answers at a steady rate: ``rate_rps[variant]`` requests a second, each after ``latency_s[variant]``."""

    def __init__(self, rate_rps: dict[str, float], latency_s: dict[str, float], noise: float = 0.0) -> None:
        self.rate_rps = rate_rps
        self.latency_s = latency_s
        self.noise = noise
        self.done: list[TrialPlan] = []

    def perform(
        self,
        trial: TrialPlan,
        gotcha: GotchaPlan,
        condition: Condition,
        folder: TrialFolder,
        live: Callable[[Live], None],
    ) -> TrialRecord:
        """See ``lab.run.runner.Executor``."""
        self.done.append(trial)
        live(Live("load"))
        draw = np.random.default_rng([trial.seed, trial.pair, len(trial.variant)])
        scale = float(np.exp(draw.normal(0, self.noise)))
        rate, latency = self.rate_rps[trial.variant] * scale, self.latency_s[trial.variant] / scale
        count = int(rate * condition.duration_s)
        done = START_NS + (np.arange(1, count + 1) * condition.duration_s * 1e9 / (count + 1)).astype(np.int64)
        sent = done - int(latency * 1e9)
        matrix = np.zeros((count, len(SAMPLE_COLUMNS)), dtype=np.int64)
        for index, values in enumerate((sent, sent, sent, done, done)):
            matrix[:, index] = np.maximum(values, START_NS)
        matrix[:, SAMPLE_COLUMNS.index("status")] = 200
        matrix[:, SAMPLE_COLUMNS.index("level")] = -1
        matrix[:, SAMPLE_COLUMNS.index("pid")] = 7
        folder.path.mkdir(parents=True, exist_ok=True)
        write_samples(folder.path / "samples.parquet", matrix)
        flown_s = float((done - np.maximum(sent, START_NS)).sum()) / 1e9
        generator = GeneratorSeen(
            count,
            count,
            0,
            (0.1,),
            0.0005,
            0.002,
            "",
            rows=count,
            never_sent=0,
            in_flight_s=flown_s,
            jitter_samples=180,
        )
        return TrialRecord(
            trial.gotcha, trial.condition, trial.pair, trial.variant, trial.seed, "ok", load_started_ns=START_NS,
            load_ended_ns=START_NS + int(condition.duration_s * 1e9), request_names=("GET /",), server_pids=(7,),
            loop="uvloop", http="httptools", generator=generator,
        )  # fmt: skip

    def perform_duet(
        self, trials: Sequence[TrialPlan], gotcha: GotchaPlan, condition: Condition, folders: Sequence[TrialFolder],
        live: Callable[[Live], None],
    ) -> list[TrialRecord]:  # fmt: skip
        """See ``lab.run.runner.Executor``: the arms one after the other, which a formula cannot tell from at once."""
        return [self.perform(one, gotcha, condition, folder, live) for one, folder in zip(trials, folders, strict=True)]
