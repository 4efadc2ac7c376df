"""The page of a comparison of configurations, beside the pages of the run that it rests on."""

from collections.abc import Sequence
from pathlib import Path

from analysis.charts.model import ChartData
from analysis.compare import MEANINGS, Comparison
from analysis.compared import brief, harm_text, interval, sentence, span
from analysis.report.build import load_site, templates
from analysis.report.pictures import draw_all
from lab.store import RunFolder, write_bytes

PAGE = "compare.html"


def build_comparison(run: RunFolder, root: Path, comparisons: Sequence[Comparison], report: Path) -> Path:
    """Write ``compare.html`` into a built report (its folder) and return it.  Raises StoreError."""
    site = load_site(run, root, report)
    judged = {one.gotcha: one for one in site.verdicts.gotchas}
    drawn = {
        one.gotcha: draw_all(ChartData(site.plan.gotcha(one.gotcha), judged[one.gotcha], lambda slug=one.gotcha: run.trials(slug)),  # type: ignore[misc]
                             report, report, repaint=False)
        for one in comparisons
    }  # fmt: skip
    used = {answer.said for one in comparisons for answer in one.answers}
    meanings = {word: meaning for word, meaning in MEANINGS.items() if word in used}
    html = templates().get_template("compare.html").render(
        root="", site=site, comparisons=comparisons, drawn=drawn, meanings=meanings, harm=harm_text, interval=interval, sentence=sentence,
        span=span, brief=brief, versions=any(answer.about == "versions" for one in comparisons for answer in one.answers),
    )  # fmt: skip
    write_bytes(report / PAGE, html.encode())
    return report / PAGE
