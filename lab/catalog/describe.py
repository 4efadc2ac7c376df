"""The describe child: imports the scenarios and prints what they say as JSON, predictions as numbers.

Run as ``python -m lab.catalog.describe [--root DIR] [--only TOPIC/GOTCHA]... [--servers JSON]``.  It is a separate process because a
scenario imports locust, which monkey-patches the whole process with gevent.  Output: ``{"format_version": 1, "gotchas": [GotchaPlan],
"broken": [{"gotcha", "error"}]}``.  ``--servers`` replaces the server of every condition by each of the given ones (compare, ``--workers``).
"""

import argparse
import difflib
import importlib.util
import json
import re
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from lab.catalog.asked import require_values
from lab.catalog.faults import survival_of
from lab.catalog.hashes import content_hash, measured_files
from lab.model import (
    Chart,
    Claim,
    ClaimPlan,
    Condition,
    GotchaPlan,
    MetricExpression,
    Scenario,
    Server,
)
from lab.words.codec import to_dict

FORMAT_VERSION = 1


def variants_in(folder: Path) -> tuple[str, ...]:
    """The variants of a target folder: naive, correct, then the others by name."""
    others = sorted(path.stem for path in folder.glob("*.py") if path.stem not in ("naive", "correct"))
    return ("naive", "correct", *others)


def load_scenario(path: Path) -> Scenario:
    """Import a scenario file.  Raises what it raises, or TypeError where it has no SCENARIO."""
    spec = importlib.util.spec_from_file_location(f"scenarios.{path.parent.name}.{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} cannot be imported")
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    scenario = getattr(module, "SCENARIO", None)
    if not isinstance(scenario, Scenario):
        raise TypeError("the file defines no SCENARIO = Scenario(...)")
    return scenario


def without_workers(labels: Sequence[str]) -> dict[str, str]:
    """Each label without its own number of workers, which another server takes the place of; as it is where two would be the same."""
    bare = {one: re.sub(r"(?:\b(?:to|on|over|with) )?\b\d+ workers?\b(?:, )?", "", one).strip(" ,") for one in labels}
    count = Counter(bare.values())
    return {one: new if new and count[new] == 1 else one for one, new in bare.items()}


def under_servers(condition: Condition, servers: Sequence[Server], name: str = "") -> Iterable[Condition]:
    """The condition under each of the given servers, on one trace, told apart by label and by the parameters ``workers`` and ``server``."""
    for server in servers:
        params = {**condition.params, "workers": server.workers, "server": server.kind, "loop": server.loop}
        where = server.named.replace(server.kind, f"{server.kind} x{server.workers}", 1)
        label = f"{name or condition.label} on {where}"
        load = condition.load
        if server.workers > 1 and load.can_spread(server.workers) and not condition.control:
            load = replace(load, spread=True)  # what is claimed of W workers needs all of them
        yield replace(
            condition,
            load=load,
            server=server,
            servers={},
            params=params,
            label=label,
            trace=condition.trace or condition.key,
        )


def _near(wanted: str, labels: Sequence[str]) -> str:
    """Labels that may have been meant, for an error."""
    begins = [label for label in labels if label.startswith(wanted)]
    near = list(dict.fromkeys([*begins, *difflib.get_close_matches(wanted, labels, n=3, cutoff=0.4)]))[:3]
    return f"near it: {', '.join(map(repr, near))}" if near else f"there are {', '.join(map(repr, labels))}"


def headline_of(claim: Claim, spoken: Sequence[Condition], origins: Mapping[str, str]) -> str:
    """The key of the condition that a claim's headline names: by its whole label, since another label may begin like it.

    ``spoken`` are the conditions that the claim predicts something for, ``origins`` the label in the scenario file of every condition
    by its key (under other servers they are called otherwise).  Without a headline it is the last condition of a quick run.  Raises
    ValueError for a label that is none, one that the claim says nothing about, and one that a quick run leaves out.
    """
    quick = [condition for condition in spoken if condition.quick]
    if not claim.headline:
        return (quick or spoken)[-1].key
    labels = list(dict.fromkeys(origins.values()))
    if claim.headline not in labels:
        raise ValueError(
            f"claim {claim.id}: no condition has the label {claim.headline!r}, its headline; {_near(claim.headline, labels)}"
        )
    found = [condition for condition in spoken if origins[condition.key] == claim.headline]
    if not found:
        said = _near(claim.headline, [origins[condition.key] for condition in spoken])
        raise ValueError(f"claim {claim.id}: it predicts nothing for its headline {claim.headline!r}; {said}")
    if quick and not any(condition.quick for condition in found):
        raise ValueError(
            f"claim {claim.id}: a quick run leaves out its headline {claim.headline!r}, and would quote another condition"
        )
    return found[-1].key


def register(claim: Claim, conditions: Sequence[Condition], origins: Mapping[str, str] | None = None) -> ClaimPlan:
    """Evaluate a claim's prediction at each condition; ``origins``: see ``headline_of``.

    Raises ValueError for a claim that can say nothing or whose headline is not the label of a condition that it speaks of.
    """
    MetricExpression.parse(claim.metric)
    predictions = {}
    for condition in conditions:
        value = claim.predict(condition)
        if value is not None:
            predictions[condition.key] = float(value)
    if not predictions:
        raise ValueError(f"claim {claim.id}: predicts nothing under any condition")
    spoken = [condition for condition in conditions if condition.key in predictions]
    headline = headline_of(claim, spoken, origins or {condition.key: condition.label for condition in conditions})
    same = {field.name: getattr(claim, field.name) for field in fields(ClaimPlan)
            if field.name not in ("headline", "predictions")}  # fmt: skip
    return ClaimPlan(**same, headline=headline, predictions=predictions)


def plan_of(slug: str, root: Path, servers: Sequence[Server] = ()) -> GotchaPlan:
    """The registered plan of one gotcha.  Raises whatever is wrong with its files."""
    target = root / "targets" / slug
    path = root / "scenarios" / f"{slug}.py"
    scenario = load_scenario(path)
    require_values(scenario)
    for variant in sorted(
        target.glob("*.py")
    ):  # a target that cannot be compiled is refused here, not after a minute of load
        compile(variant.read_bytes(), str(variant), "exec")
    pairs = [(one, one) for one in scenario.conditions]
    faults, holds = survival_of(scenario) if not servers else ((), ())
    if servers:
        bare = without_workers([old.label for old, _ in pairs])
        pairs = [
            (old, new) for old, _ in pairs if not old.control for new in under_servers(old, servers, bare[old.label])
        ]
    conditions = tuple(new for _, new in pairs)  # what claims of the scenario speak of; faults have claims of their own
    origins = {new.key: old.label for old, new in pairs}
    keys = [condition.key for condition in (*conditions, *faults)]
    if len(set(keys)) != len(keys):
        raise ValueError(f"two conditions have the same label: {sorted(keys)}")
    claims = []
    for claim in scenario.claims:
        try:
            claims.append(register(claim, conditions, origins))
        except ValueError:
            if not servers:  # with the controls left out some claims have nothing to speak of
                raise
    claims += [register(claim, faults) for claim in holds]
    same = {field.name: getattr(scenario, field.name) for field in fields(Scenario)
            if field.name not in ("conditions", "claims", "charts")}  # fmt: skip
    charts = tuple(replace(chart, conditions=_now_called(chart, scenario, conditions)) for chart in scenario.charts)
    return GotchaPlan(
        **same, charts=charts, slug=slug, variants=variants_in(target), conditions=(*conditions, *faults), claims=tuple(claims),
        content_hash=content_hash(measured_files(path, target)),
    )  # fmt: skip


def _now_called(chart: Chart, scenario: Scenario, conditions: Sequence[Condition]) -> tuple[str, ...]:
    """The labels that a chart's conditions have under other servers; never those of the fault matrix, which is a table."""
    if not chart.conditions and scenario.survival is not None:
        return tuple(one.label for one in conditions)
    keys = {one.key for one in scenario.conditions if one.label in chart.conditions}
    known = {one.label for one in scenario.conditions}
    unknown = [label for label in chart.conditions if label not in known]
    return tuple(unknown) + tuple(one.label for one in conditions if (one.trace or one.key) in keys)


def describe(root: Path, only: Sequence[str] = (), servers: Sequence[Server] = ()) -> dict[str, Any]:
    """The document printed by this module; a broken gotcha is reported and the rest goes on."""
    gotchas, broken = [], []
    for path in sorted((root / "scenarios").glob("*/*.py")):
        slug = f"{path.parent.name}/{path.stem}"
        if only and slug not in only:
            continue
        try:
            gotchas.append(to_dict(plan_of(slug, root, servers)))
        except (Exception, SystemExit) as error:  # a file that ends the process takes no other with it
            frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
            line = f" (scenarios/{slug}.py line {frames[-1].lineno})" if frames else ""
            broken.append({"gotcha": slug, "error": f"{type(error).__name__}: {error}{line}"})
    return {"format_version": FORMAT_VERSION, "gotchas": gotchas, "broken": broken}


def main() -> None:
    """Entry point of the child."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent.parent)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--servers", default="[]")
    options = parser.parse_args()
    servers = [Server(**{**one, "options": tuple(one.get("options", ()))}) for one in json.loads(options.servers)]
    document = json.dumps(describe(options.root, options.only, servers))
    sys.stdout.write(document + "\n")


if __name__ == "__main__":
    main()
