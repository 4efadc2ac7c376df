"""Why a pair must be done again: the hook of ``lab.run.runner`` for the gates of the lab's own side.

Only gates that spoil something which is claimed under the condition count: where every claim is about counts, noise spoils nothing.
"""

from collections.abc import Sequence

from analysis.facts import reduce_trial
from analysis.frames import FolderLike, open_trial
from analysis.gates import GATES, Cell
from analysis.metrics import claimed_families
from lab.model import Condition, GotchaPlan
from lab.words.record import TrialRecord


def spoiled(
    records: Sequence[TrialRecord], gotcha: GotchaPlan, condition: Condition, folders: Sequence[FolderLike]
) -> str:
    """Which gate a pair fails and why, or "".  ``records`` and ``folders`` are those of all its arms.

    A trial that failed is no reason: it is a result.  A crash of the analysis is none either: the judge meets it again and says so.
    """
    claimed = claimed_families(gotcha, condition.key)
    gates = [gate for gate in GATES if gate.by_pair and gate.spoils & claimed]
    if not gates:
        return ""
    try:
        done = [open_trial(folder) for record, folder in zip(records, folders, strict=True) if record.status == "ok"]
        cell = Cell(condition, [reduce_trial(trial, gotcha, condition, ()) for trial in done])
        for gate in gates if done else ():
            outcome = gate.check(cell)
            if outcome.passed is False:
                return f"{gate.name} {gate.title}: {outcome.detail}"
    except Exception:
        return ""
    return ""
