"""Which conditions a quick run left undecided after its first look: the hook of ``lab.commands.session`` for a second one."""

from analysis.judge import judge_run
from lab.store import RunFolder


def undecided(run: RunFolder) -> list[tuple[str, str, int]]:
    """Slug, condition (its key) and pairs of each inconclusive claim that a finite number of pairs would settle.  Raises StoreError."""
    return [
        (gotcha.gotcha, one.condition, one.more_pairs)
        for gotcha in judge_run(run).gotchas
        for claim in gotcha.claims
        for one in claim.conditions
        if one.verdict == "inconclusive" and one.more_pairs is not None
    ]
