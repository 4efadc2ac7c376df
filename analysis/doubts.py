"""Doubts: the closed list of warnings that a result carries, each with what to do.  None of them decides a verdict."""

from collections.abc import Mapping
from types import MappingProxyType

from analysis.model import Doubt

DOUBTS: Mapping[str, str] = MappingProxyType({
    "quick_run": "Run with --full before you act on it.",
    "few_pairs": "Add pairs: below six the robust twin has no 95 % interval and no exact test can reach 5 %.",
    "partial_run": "The run was interrupted; run it again for the missing trials.",
    "failed_trials": "Read the reason and the logs in the trial's folder.",
    "repeated_pairs": "Their first attempts are kept in attempts/; where it happens often close other programs, or use a machine with more cores.",
    "skipped": "Claims were judged without this condition; install what the reason names to have it.",
    "probe_failed": "The variant does not answer as the scenario says; compare its answer with the probe.",
    "over_subscribed": "Ratios, CPU per request and counts stand; take absolute rates from a machine with more cores, or use fewer workers.",
    "overload": "Offer less than the capacity to compare latencies; above it compare capacity_rps, time_to_breach_s and recovery_s.",
    "metric_refused": "See the reason; run longer, offer more, or claim another metric.",
    "unanswered": "A percentile above the answered share is unknown; lengthen the drain, or offer less.",
    "errors": "Look at status_count and the server's log before you compare latencies: they are of the successes only.",
    "wrong_loop": "Install uvloop, or say --loop asyncio: without it TCP_NODELAY may be missing and each answer wait 40 ms.",
    "idle_worker": "Use more users, or spread=True on the load: a keep-alive connection stays with one worker.",
    "uneven_workers": "Compare the sum over the workers, not one of them; spread=True on the load deals its connections evenly.",
    "reconnects": "The server closed connections (uvicorn does after 5 s idle); lower the think time or raise its keep-alive.",
    "not_steady": "Lengthen the warm-up: latency was still moving when the measurement began.",
    "generator_gap": "The generator itself took a share of each round; read the closed-loop rate as a lower bound.",
    "busy_server": "CPU per request is steady up to 60 % load; lower the rate.",
    "wide_spread": "Pairs differ much: look at the noise gate, close other programs, or take more pairs.",
    "traces_differ": "The arms of a pair did not see the same arrivals; the pairing is weaker than it looks.",
    "mixed_versions": "Trials of one condition ran on different versions; run again.",
    "robust_disagrees": "One trial pulls the mean; look at the per-pair values, then take more pairs.",
    "many_claims": "Over all claims of this gotcha the finding is not significant (Holm); take more pairs.",
    "analysis_crash": "A defect of the lab: report it with the run's folder.",
})  # fmt: skip
"""Every doubt there is, with its advice."""


def doubt(name: str, seen: str, number: float | None = None, condition: str = "") -> Doubt:
    """A doubt of the list.  Raises KeyError for one that is not on it."""
    return Doubt(name, seen, number, DOUBTS[name], condition)
