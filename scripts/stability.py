"""Is every verdict right, every time?  Tours and quick runs of everything, one after another, and how often each claim came out how.

    uv run scripts/stability.py [--tours 10] [--runs 3] [--gotcha NAME]...   run them, nothing else beside
    uv run scripts/stability.py --resume results/stability-20261125-140000   go on after Ctrl-C or a reboot
    uv run scripts/stability.py --report results/stability-20261125-140000   judge what is there
    uv run scripts/stability.py --resume results/published/stability         add to what is published, hours at a time

Each is `bench.py tour --json` or `bench.py run --all --json` as a child process; of its document the verdicts
and their reasons are kept, with the version of the lab that gave them.  Exit code 0 where all tours
exited 0, no claim came out not reproduced, law broken, reversed or invalid in any of them, and at most 1 % of all claims inconclusive.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FORMAT_VERSION = 1
WRONG = ("invalid", "reversed", "not_reproduced", "law_broken")
"""Words that a claim may not have even once."""
QUIET = ("reproduced", "smaller", "larger", "symptom_only")
"""Words that are told without their reasons."""
MOST_INCONCLUSIVE = 0.01
"""Share of all claims of all runs that may stay undecided."""
VERDICT_CODES = (0, 1, 2)
"""Exit codes of a run that came to its end: a run of everything may hold what is smaller, larger or undecided."""
EXIT_INTERRUPTED = 130
UNKNOWN = "unknown"
STOP_S = 60
"""How long a child has to stop its services after Ctrl-C."""


# ---------------------------------------------------------------- what is counted


@dataclass(frozen=True)
class Outcome:
    """One tour or run: its exit code, its document (None where it printed none) and the commit of the lab that it ran."""

    name: str
    exit_code: int
    document: Mapping[str, Any] | None
    version: str = ""

    @property
    def is_tour(self) -> bool:
        """Whether it was a tour."""
        return self.name.startswith("tour")

    def claims(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Each claim with its name, ``topic/gotcha: id``."""
        for gotcha in (self.document or {}).get("gotchas", ()):
            for claim in gotcha["claims"]:
                yield f"{gotcha['gotcha']}: {claim['id']}", claim


@dataclass
class Tally:
    """How one claim came out over all outcomes, and where and why it was not simply fine."""

    kind: str
    verdicts: dict[str, int] = field(default_factory=dict)
    trouble: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Summary:
    """Everything that the report says."""

    tours: Mapping[str, int]
    runs: Mapping[str, int]
    broken: Sequence[str]
    claims: Mapping[str, Tally]
    verdicts: Mapping[str, int]
    pairs_repeated: Mapping[str, int]
    pairs_added: Mapping[str, int]
    trials_failed: int
    missing: Sequence[str] = ()
    versions: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def judged(self) -> int:
        """How many verdicts there are."""
        return sum(self.verdicts.values())

    @property
    def inconclusive_share(self) -> float:
        """The share of verdicts that are inconclusive; 1 where there is none: nothing is known."""
        return self.verdicts.get("inconclusive", 0) / self.judged if self.judged else 1.0

    def objections(self) -> list[str]:
        """What speaks against the criterion."""
        found = [f"{name} exited {code}" for name, code in self.tours.items() if code]
        found += [f"{name} exited {code}" for name, code in self.runs.items() if code not in VERDICT_CODES]
        found += [f"{name} gave no document, or part of one" for name in self.broken]
        found += [f"{len(self.missing)} not done yet: {', '.join(self.missing)}"] if self.missing else []
        found += [
            f"{name}: {_word(word)} {tally.verdicts[word]} of {sum(tally.verdicts.values())} times"
            for name, tally in self.claims.items() for word in WRONG if word in tally.verdicts
        ]  # fmt: skip
        if self.inconclusive_share > MOST_INCONCLUSIVE:
            found.append(
                f"{self.inconclusive_share:.1%} of {self.judged} verdicts are inconclusive, at most {MOST_INCONCLUSIVE:.0%} may be"
            )
        return found


def _trouble(where: str, claim: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict that is not fine, with the conditions that made it so."""
    conditions = [
        {"condition": one["condition"], "verdict": one["verdict"], "reason": one["reason"], "pairs": one["pairs"]}
        for one in claim["conditions"] if one["verdict"] not in QUIET
    ]  # fmt: skip
    return {"run": where, "verdict": claim["verdict"], "reason": claim.get("reason", ""), "conditions": conditions}


def summarize(outcomes: Sequence[Outcome], wanted: Sequence[str] = ()) -> Summary:
    """Count; ``wanted`` are the names of all that was to be done.  Pure."""
    claims: dict[str, Tally] = {}
    totals: Counter[str] = Counter()
    repeated, added, failed = Counter[str](), Counter[str](), 0
    for outcome in outcomes:
        for name, claim in outcome.claims():
            tally = claims.setdefault(name, Tally(claim["kind"]))
            tally.verdicts[claim["verdict"]] = tally.verdicts.get(claim["verdict"], 0) + 1
            totals[claim["verdict"]] += 1
            if claim["verdict"] not in QUIET:
                tally.trouble.append(_trouble(outcome.name, claim))
        for gotcha in (outcome.document or {}).get("gotchas", ()):
            effort = gotcha.get("effort", {})
            repeated[gotcha["gotcha"]] += len(effort.get("pairs_repeated", ()))
            added[gotcha["gotcha"]] += effort.get("pairs_added", 0)
            failed += effort.get("failed", 0)
    return Summary(
        {one.name: one.exit_code for one in outcomes if one.is_tour},
        {one.name: one.exit_code for one in outcomes if not one.is_tour},
        [one.name for one in outcomes if one.document is None or one.document.get("partial")],
        dict(sorted(claims.items())), dict(totals), dict(+repeated), dict(+added), failed,
        [name for name in wanted if name not in {one.name for one in outcomes}],
        {version: [one.name for one in outcomes if one.version == version] for version in dict.fromkeys(o.version for o in outcomes)},
    )  # fmt: skip


# ---------------------------------------------------------------- how it is told


def _word(verdict: str) -> str:
    return verdict.replace("_", " ")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda one: -one[1]))


def _verdicts(counts: Mapping[str, int]) -> str:
    return _counts({_word(verdict): count for verdict, count in counts.items()})


def _span(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} ({names[0]} to {names[-1]})"


def _codes(codes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {code}" for name, code in codes.items()) or "none"


def lines(summary: Summary) -> list[str]:
    """The summary as Markdown that reads as text too."""
    objections = summary.objections()
    text = ["# Stability", "", f"{'Stable' if not objections else 'Not stable'}: {len(summary.tours)} tours, {len(summary.runs)} runs, "
            f"{summary.judged} verdicts: {_verdicts(summary.verdicts)}.", ""]  # fmt: skip
    text += [f"- {one}" for one in objections]
    text += ["", f"Exit codes of the tours: {_codes(summary.tours)}", f"Exit codes of the runs: {_codes(summary.runs)}",
             f"By version of the lab: {'; '.join(f'{version or UNKNOWN}: {_span(names)}' for version, names in summary.versions.items())}",
             f"Inconclusive: {summary.inconclusive_share:.2%} of all verdicts", f"Failed trials: {summary.trials_failed}",
             f"Pairs done again: {sum(summary.pairs_repeated.values())} ({_counts(summary.pairs_repeated) or 'none'})",
             f"Pairs added by a second look: {sum(summary.pairs_added.values())} ({_counts(summary.pairs_added) or 'none'})", ""]  # fmt: skip
    text += ["## Claim by claim", ""]
    text += [f"- {name} ({tally.kind}): {_verdicts(tally.verdicts)}" for name, tally in summary.claims.items()]
    text += ["", "## Not fine at least once", ""]
    for name, tally in summary.claims.items():
        for one in tally.trouble:
            text.append(f"- {name}, {one['run']}: {_word(one['verdict'])}")
            text += [
                f"    - {c['condition']} ({c['pairs']} pairs): {_word(c['verdict'])}: {c['reason']}"
                for c in one["conditions"]
            ]
    return text


def as_document(summary: Summary) -> dict[str, Any]:
    """The summary as JSON."""
    return {
        "format_version": FORMAT_VERSION, "stable": not summary.objections(), "objections": summary.objections(),
        "inconclusive_share": summary.inconclusive_share, "verdicts_in_all": summary.judged, **asdict(summary),
    }  # fmt: skip


# ---------------------------------------------------------------- doing and keeping


def write(path: Path, text: str) -> None:
    """Write aside and rename: an interrupted script leaves no half a document."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(text)
    aside.replace(path)


def stored(path: Path) -> Outcome | None:
    """The outcome in a file; None where there is none, or a damaged one (a full disk, a power cut): it is done again."""
    try:
        kept = json.loads(path.read_text())
        return Outcome(kept["name"], kept["exit_code"], kept["document"], kept.get("version", ""))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read(folder: Path) -> list[Outcome]:
    """The outcomes in a folder, tours first, in order."""
    paths = sorted(folder.glob("*.outcome.json"), key=lambda one: (one.name.split("-")[0] != "tour", one.name))
    return [outcome for outcome in map(stored, paths) if outcome is not None]


def planned(tours: int, runs: int) -> list[str]:
    """The names of everything that is to be done, tours first."""
    return [
        *(f"tour-{number:03}" for number in range(1, tours + 1)),
        *(f"run-{number:03}" for number in range(1, runs + 1)),
    ]


def command_of(name: str, gotchas: Sequence[str], results: Path) -> list[str]:
    """The command line of a tour or a run."""
    what = ["tour"] if name.startswith("tour") else ["run", *(gotchas or ["--all"])]
    return [sys.executable, str(ROOT / "bench.py"), *what, "--json", "--quiet", "--results", str(results)]


def version() -> str:
    """The commit that is checked out, with a mark where files differ from it; empty outside a repository."""
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return asked.stdout.strip()


def lean(document: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the summary reads of a document, a hundredth of it: verdicts, reasons, effort."""
    if document is None:
        return None
    return {
        **{name: document[name] for name in ("partial",) if name in document},
        "gotchas": [
            {
                "gotcha": gotcha["gotcha"],
                "effort": gotcha.get("effort", {}),
                "claims": [
                    {
                        **{name: claim[name] for name in ("id", "kind", "verdict", "reason") if name in claim},
                        "conditions": [
                            {name: one[name] for name in ("condition", "verdict", "reason", "pairs")}
                            for one in claim["conditions"] if one["verdict"] not in QUIET
                        ],
                    }
                    for claim in gotcha["claims"]
                ],
            }
            for gotcha in document.get("gotchas", ())
        ],
    }  # fmt: skip


def perform(name: str, command: Sequence[str], folder: Path) -> bool:
    """Do one and keep its outcome; False where Ctrl-C ended it, and then nothing is kept."""
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
        try:
            printed, _ = process.communicate()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # in a separate session: it hears of Ctrl-C from us, once
            try:
                process.communicate(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            return False
    try:
        document = json.loads(printed)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = None
    outcome = {"name": name, "exit_code": process.returncode, "version": version(), "document": lean(document)}
    write(folder / f"{name}.outcome.json", json.dumps(outcome, indent=1))
    return True


def run_all(folder: Path, names: Sequence[str], gotchas: Sequence[str], results: Path) -> bool:
    """Do what is not there yet; False where it was interrupted."""
    for number, name in enumerate(names, 1):
        if stored(folder / f"{name}.outcome.json"):
            continue
        print(f"{number}/{len(names)} {name}", file=sys.stderr, flush=True)
        if not perform(name, command_of(name, gotchas, results), folder):
            return False
    return True


def asked_in(folder: Path) -> dict[str, Any]:
    """What this folder was made for.  Ends the script where it is no folder of ours."""
    try:
        asked: dict[str, Any] = json.loads((folder / "asked.json").read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"{folder} is no stability folder: {error}")
    return asked


def report(folder: Path) -> int:
    """Write and print the summary of a folder; 0 where the criterion holds."""
    asked = asked_in(folder)
    summary = summarize(read(folder), planned(asked["tours"], asked["runs"]))
    write(folder / "stability.json", json.dumps(as_document(summary), indent=1))
    write(folder / "stability.md", "\n".join(lines(summary)) + "\n")
    print("\n".join(lines(summary)))
    return 1 if summary.objections() else 0


def arguments(text: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tours", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--gotcha", action="append", default=[], help="the runs do only these; may be repeated")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where the runs and the summary go")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with what an interrupted one began")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="judge what is there, run nothing")
    return parser.parse_args(text)


def main() -> int:
    """Run, keep, judge."""
    options = arguments()
    if options.report:
        return report(options.report)
    folder = options.resume or options.results.resolve() / f"stability-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if not options.resume:
        folder.mkdir(parents=True)
        asked = {
            "tours": options.tours,
            "runs": options.runs,
            "gotchas": options.gotcha,
            "results": os.path.relpath(options.results.resolve(), folder),
        }
        write(folder / "asked.json", json.dumps(asked, indent=1))
    asked = asked_in(folder)
    try:
        whole = run_all(
            folder, planned(asked["tours"], asked["runs"]), asked["gotchas"], (folder / asked["results"]).resolve()
        )
    except KeyboardInterrupt:
        whole = False
    code = report(folder)
    if not whole:
        print(f"interrupted; go on with --resume {folder}", file=sys.stderr)
    return code if whole else EXIT_INTERRUPTED


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: the child stops its services, and what is done is kept
        if signal.getsignal(number) == signal.SIG_DFL:  # under nohup it goes on
            signal.signal(number, signal.default_int_handler)
    sys.exit(main())
