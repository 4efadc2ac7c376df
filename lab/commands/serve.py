"""A target and its services for a person: curl, a debugger, Locust's own web page.  Ends with Ctrl-C."""

import json
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lab.model import Condition, GotchaPlan, TrialPlan
from lab.run.stage import staged
from lab.run.trial import RealExecutor
from lab.services.supervisor import Services
from lab.target.running import start_server
from lab.terminal import note
from lab.words.errors import UsageError


@contextmanager
def until_interrupted() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that ``with`` blocks are left in order."""
    done = threading.Event()
    old = {number: signal.signal(number, lambda *_: done.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield done
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _condition(plan: GotchaPlan, label: str) -> Condition:
    if not label:
        return plan.conditions[0]
    found = [one for one in plan.conditions if one.label == label or one.key == label]
    if not found:
        raise UsageError(f"{plan.slug} has no condition {label!r}", "; ".join(one.label for one in plan.conditions))
    return found[0]


def _announce(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
        return
    for name, value in facts.items():
        if value:
            note(f"{name:>13}  {value}")
    note("Ctrl-C ends it.")


def serve_until_interrupted(
    plan: GotchaPlan, variant: str, port: int, label: str, services: str, as_json: bool
) -> None:
    """Serve one variant.  Prints its address when it answers.  Raises UsageError, ServiceError, ServerError."""
    if variant not in plan.variants:
        raise UsageError(f"{plan.slug} has no variant {variant!r}", f"Variants: {', '.join(plan.variants)}.")
    condition = _condition(plan, label)
    trial = TrialPlan(plan.slug, condition.key, 0, variant, 0)
    with until_interrupted() as done, ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lab-serve-")))
        up = stack.enter_context(Services(set(plan.services), mode=services, log_folder=logs))
        database = stack.enter_context(RealExecutor(up).database(plan, condition))
        stage = stack.enter_context(staged(up, plan, condition, trial, database, logs))
        server = start_server(
            up.guard, stage.condition.server, stage.app, logs, stage.target_env, python=stage.python, port=port
        )
        stack.callback(server.child.stop, 8.0)
        stage.attach(server)
        facts = {
            "url": stage.address(server).url, "pids": [server.child.pid, *server.worker_pids()],
            "postgres_url": stage.env.get("DATABASE_URL", ""), "redis_url": stage.env.get("REDIS_URL", ""),
            "upstream_url": stage.env.get("UPSTREAM_URL", ""),
        }  # fmt: skip
        _announce(facts, as_json)
        if not as_json:
            note(f"Locust's page: uv run locust -f scenarios/{plan.slug}.py -H {stage.address(server).url}")
        while not done.wait(0.5):
            if server.child.poll() is not None:
                raise UsageError(f"the server ended: {server.child.log_tail(5)}", "Mend the target and serve it again.")


def services_until_interrupted(services: str, as_json: bool) -> None:
    """PostgreSQL and Redis alone.  Raises ServiceError."""
    with ExitStack() as stack:
        done = stack.enter_context(until_interrupted())
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lab-services-")))
        up = stack.enter_context(Services({"postgres", "redis"}, mode=services, log_folder=logs))
        assert up.postgres is not None and up.redis is not None
        database = up.postgres.fresh_copy(None)
        stack.callback(up.postgres.drop, database)
        _announce({"postgres_url": up.postgres.url(database), "redis_url": up.redis.url}, as_json)
        done.wait()
