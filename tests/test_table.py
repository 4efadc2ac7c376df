"""The verdicts as a terminal shows them: width, reasons, colours."""

import re
from dataclasses import replace

from analysis.model import Doubt, GotchaVerdict, RunVerdicts
from analysis.table import verdicts_text
from tests.sample_run import blocked_plan, pages_plan, verdict_of

GATE = "gate G1 failed: p99 lag 3.05 ms, median 0.108 ms. Give the generator its own core, or offer less."
QUICK = Doubt("quick_run", "A quick run: its verdicts are indicative.", None, "Run with --full before you act on it.")


def judged(*gotchas: GotchaVerdict) -> RunVerdicts:
    return RunVerdicts("a-run", gotchas)


def invalid() -> GotchaVerdict:
    """All claims invalid for one and the same reason."""
    base = verdict_of(blocked_plan(), "invalid")
    claims = tuple(
        replace(
            claim, verdict="invalid", statement="a statement that goes on " * 8,
            conditions=tuple(replace(one, verdict="invalid", reason=GATE) for one in claim.conditions),
        )
        for claim in base.claims
    )  # fmt: skip
    return replace(base, claims=claims, doubts=(QUICK,))


def reproduced() -> GotchaVerdict:
    return replace(verdict_of(pages_plan(), "reproduced"), doubts=(QUICK,))


def test_no_line_is_wider_than_a_hundred_columns_and_nothing_is_cut() -> None:
    text = verdicts_text(judged(invalid(), reproduced()))
    assert max(map(len, text.splitlines())) <= 100
    assert len(re.findall("a statement that goes on", re.sub(r"\s+", " ", text))) == 8 * len(invalid().claims)


def test_a_claim_that_was_not_reproduced_says_why_and_once() -> None:
    text = re.sub(r"\s+", " ", verdicts_text(judged(invalid())))
    assert len(invalid().claims) > 1
    assert text.count(GATE) == 1


def test_several_gotchas_end_with_a_line_for_each_and_a_shared_doubt_is_said_once() -> None:
    bad, good = invalid(), reproduced()
    text = verdicts_text(judged(bad, good))
    summary = text.rsplit("\n\n", 1)[1]
    assert f"2 gotchas: {len(good.claims)} of {len(bad.claims) + len(good.claims)} checks as predicted" in summary
    assert f"{len(bad.claims)} not tested" in summary
    results = text.split("\n\n", 1)[0]
    # results first, a line each below the header; not known is never red
    assert [line[0] for line in results.splitlines()[1:]] == ["?", "✓"]
    assert good.gotcha not in text.replace(results, "")  # what came out as predicted is told on demand
    assert good.claims[0].statement[:30] in verdicts_text(judged(bad, good), details=True)
    assert text.count("indicative") == 1
    assert verdicts_text(judged(good)).count("indicative") == 1


def test_colour_adds_nothing_but_colour() -> None:
    verdicts = judged(invalid(), reproduced())
    colored = verdicts_text(verdicts, colored=True)
    assert "\x1b[33m" in colored
    assert "\x1b[31m" not in colored  # red is for what is known to be otherwise; invalid is not known
    assert re.sub(r"\x1b\[\d+m", "", colored) == verdicts_text(verdicts)
