"""The regime of a verdict: under what load, server, machine and versions it was found."""

from collections.abc import Mapping, Sequence

from analysis.facts import TrialFacts
from lab.model import Condition, GotchaPlan, RunPlan
from lab.words.record import Environment

FRAMEWORK = ("fastapi", "starlette", "pydantic")


def processes_of(condition: Condition, plan: GotchaPlan, generators: int = 1) -> int:
    """Processes that want a core: workers, generator, PostgreSQL, Redis, Celery, upstream."""
    services = len([one for one in plan.services if one != "celery"])
    celery = condition.celery.concurrency * condition.celery.workers if condition.celery else 0
    return condition.workers + generators + services + celery


def is_over_subscribed(condition: Condition, plan: GotchaPlan, environment: Environment | None) -> bool:
    """Fewer cores than processes: ratios, CPU per request and counts may be judged, absolute capacities may not (docs/method.md, 2)."""
    return environment is not None and environment.cores < processes_of(condition, plan)


def _several(values: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))


def _version(name: str, facts: Sequence[TrialFacts], environment: Environment | None) -> str:
    seen = _several([trial.record.versions.get(name, "") for trial in facts])
    if seen or environment is None:
        return seen
    return environment.packages.get(name, "") or environment.services.get(name, "")


def regime_of(
    plan: GotchaPlan, run: RunPlan, environment: Environment | None, facts: Sequence[TrialFacts]
) -> Mapping[str, str]:
    """Load, server, machine and versions as text; what varied is listed.  Keys without a value are left out."""
    conditions = [c for c in plan.conditions if not c.fault] or plan.conditions
    done = [trial for trial in facts if trial.ok]
    found = {
        "load": _several([c.load.brief for c in conditions]),
        "workers": _several([str(c.workers) for c in conditions]),
        "server": _several([c.server.kind for c in conditions]),
        "loop": _several([t.record.loop for t in done]) or _several([c.server.loop for c in conditions]),
        "http": _several([t.record.http for t in done]) or _several([c.server.http for c in conditions]),
        "mode": run.mode,
        "pairs": str(1 + max((t.record.pair for t in done), default=-1)),
        "payload": _payload(done),
    }
    if environment is not None:
        found["cores"] = str(environment.cores)
        found["cores_divided"] = _several([_divided(t.record.affinity) for t in done])
        found["over_subscribed"] = "yes" if any(is_over_subscribed(c, plan, environment) for c in conditions) else ""
        found["platform"] = environment.platform
    found["python"] = _version("python", done, None) or (environment.python if environment else "")
    servers = {c.server.kind.partition("-")[0] for c in conditions}  # gunicorn-uvicorn is gunicorn with another worker
    for name in (*FRAMEWORK, *sorted(servers)):
        found[name] = _several([c.packages.get(name, "") for c in conditions]) or _version(name, done, environment)
    for service in plan.services:
        found[service] = _version(service, done, environment)
    if environment is not None and plan.services:
        found["services_source"] = environment.services.get("source", "")
    return {name: value for name, value in found.items() if value}


def _divided(affinity: Mapping[str, Sequence[int]]) -> str:
    if not affinity:
        return "shared by all"
    generator, target = len(affinity["generator"]), len(affinity["target"])
    return f"{generator} for the generator, {target} for target and services"


def _payload(facts: Sequence[TrialFacts]) -> str:
    sizes = [size for trial in facts if (size := trial.number("response_mean_bytes")) is not None]
    if not sizes:
        return ""
    low, high = round(min(sizes)), round(max(sizes))
    return f"{low} B" if low == high else f"{low}-{high} B"
