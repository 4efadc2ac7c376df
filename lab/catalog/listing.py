"""What ``bench.py list`` shows, from the cached description alone: no heavy import, under 0.3 s."""

from collections.abc import Mapping, Sequence
from typing import Any

from lab.words.lengths import trial_s
from lab.words.loads import load_of
from lab.words.looks import SecondLook

TITLE_WIDTH = 94


def _trial_s(condition: Mapping[str, Any]) -> float:
    load = load_of(condition["load"])
    return trial_s(load, condition["duration_s"], condition["warmup_s"], condition["server"]["workers"])


def _pairs(gotcha: Mapping[str, Any], condition: Mapping[str, Any], mode: str) -> int:
    if condition["fault"]:
        return int(mode != "quick")
    if mode == "faults" or (mode == "quick" and not condition["quick"]):
        return 0
    return int(gotcha["full_pairs"] if mode == "full" else condition["quick_pairs"] or gotcha["quick_pairs"])


def seconds(gotcha: Mapping[str, Any], mode: str) -> int:
    """How long a run of this gotcha takes in a mode (quick, full, faults), roughly, in seconds."""
    total = 0.0
    for condition in gotcha["conditions"]:
        pairs = _pairs(gotcha, condition, mode)
        arms = len(condition["variants"] or gotcha["variants"])
        total += pairs * arms * _trial_s(condition)
    return round(total)


def searched(found: Sequence[Mapping[str, Any]], words: Sequence[str]) -> list[Mapping[str, Any]]:
    """The rows in which every word stands: in the name, title, claim, symptoms, labels, claims or catalogue ids, whatever the case.

    "cache_without_lock" and "QueuePool limit" are found as they are typed; plurals and word forms are not.
    """
    wanted = [word.lower() for text in words for word in text.split()]

    def everything(row: Mapping[str, Any]) -> str:
        parts = [
            row["gotcha"],
            row["title"],
            row["claim"],
            *row["symptoms"],
            *row["labels"].values(),
            *row["catalogue_ids"],
        ]
        parts += [claim["statement"] for claim in row["claims"]]
        text = " ".join(parts).lower()
        return f"{text} {text.replace('_', ' ').replace('-', ' ')}"

    return [row for row in found if all(word in everything(row) for word in wanted)]


def rows(gotchas: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a gotcha, as ``list --json`` prints it."""
    return [
        {
            "gotcha": one["slug"], "topic": one["slug"].split("/")[0], "parts": list(one["parts"]), "title": one["title"],
            "claim": one["claim"], "catalogue_ids": list(one["catalogue_ids"]), "variants": list(one["variants"]),
            "claims": [{"id": c["id"], "kind": c["kind"], "statement": c["statement"]} for c in one["claims"]],
            "probes": len(one["probes"]), "services": list(one["services"]),
            "quick_s": seconds(one, "quick"), "full_s": seconds(one, "full"), "faults_s": seconds(one, "faults"),
            "quick_most_s": round(seconds(one, "quick") * (1 + SecondLook.time_share)),
            "labels": dict(one["labels"]), "symptoms": list(one["symptoms"]),
        }
        for one in gotchas
    ]  # fmt: skip


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text that fits 100 columns."""
    if not found:
        return "There is no gotcha yet: `bench.py new TOPIC/GOTCHA` makes one."
    lines, topic = [], ""
    for row in found:
        if row["topic"] != topic:
            topic = row["topic"]
            lines.append(f"\n{topic}")
        name = row["gotcha"].split("/")[1]
        parts = ",".join(str(part) for part in row["parts"])
        title = row["title"] if len(row["title"]) <= TITLE_WIDTH else row["title"][: TITLE_WIDTH - 1] + "…"
        lines.append(f"  {name:<34} {row['quick_s']:>4} s  part {parts}")
        lines.append(f"      {title}")
    lines.append(
        f"\n{len(found)} {'gotcha' if len(found) == 1 else 'gotchas'}. `bench.py run NAME` runs one; the seconds are a quick run's."
    )
    lines.append(f"Where claims stay undecided it adds pairs, up to {SecondLook.time_share:.0%} of its time again.")
    return "\n".join(lines).lstrip("\n")
