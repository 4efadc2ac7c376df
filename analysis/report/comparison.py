"""The page of a comparison of worker configurations, beside the pages of the run that it rests on."""

from collections.abc import Sequence
from pathlib import Path

from analysis.charts.model import ChartData
from analysis.compare import MEANINGS, Comparison, interval, number, span
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
    html = templates().get_template("compare.html").render(
        root="", site=site, comparisons=comparisons, drawn=drawn, meanings=MEANINGS, number=number, interval=interval, span=span,
    )  # fmt: skip
    write_bytes(report / PAGE, html.encode())
    return report / PAGE
