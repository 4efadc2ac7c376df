"""Charts: the numbers that are painted, not the pixels; and that painting leaves nothing behind."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from analysis import charts
from analysis.charts import ChartData, ChartUnavailable
from analysis.charts.canvas import balanced, spread
from analysis.charts.distributions import quantiles
from analysis.charts.select import curves
from analysis.charts.style import DARK, LIGHT, SETTINGS, color_of, marker_of
from analysis.charts.timelines import marks_of
from analysis.charts.units import digits, human, human_range
from analysis.frames import Trial, memory_trial, open_trial
from analysis.metrics.latency import samples_needed
from lab.model import Chart, ClosedLoad, Condition, Server
from lab.words.errors import LabError, UsageError
from lab.words.record import EventSeen, TrialRecord
from tests.sample_run import BLOCKED, CALL_S, EVIL, LIMITER, Sample, build, record


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return build(tmp_path_factory.mktemp("run"))


def data(sample: Sample, slug: str) -> ChartData:
    return ChartData(sample.plan.gotcha(slug), sample.gotcha(slug), lambda: sample.run.trials(slug))


def chart(sample: Sample, slug: str, kind: str) -> Chart:
    return next(one for one in sample.plan.gotcha(slug).charts if one.kind == kind)


def drawn(sample: Sample, slug: str, kind: str) -> charts.Picture:
    return charts.picture(chart(sample, slug, kind), data(sample, slug))


# ---------------------------------------------------------------- numbers by kind


def test_sweep_has_the_mean_over_pairs_its_interval_and_every_pair(sample: Sample) -> None:
    naive = drawn(sample, BLOCKED, "sweep").of("naive")
    assert naive.x == (1, 10, 50)
    expected = sum(1 / (CALL_S * s) for s in (1, 1.01, 1.02)) / 3
    assert naive.y == pytest.approx((expected,) * 3)
    assert len(naive.dots) == 9
    assert naive.low[0] is not None and naive.high[0] is not None and naive.low[0] < expected < naive.high[0]


def test_sweep_draws_the_registered_predictions_in_the_variants_name(sample: Sample) -> None:
    picture = drawn(sample, BLOCKED, "sweep")
    assert picture.of("naive", "theory").y == pytest.approx((20, 20, 20))
    assert picture.of("correct", "theory").y == pytest.approx((20, 200, 1000))
    assert any("dashed" in note for note in picture.notes)


def test_sweep_title_quotes_the_claims(sample: Sample) -> None:
    assert drawn(sample, BLOCKED, "sweep").title == "Blocked: 20/s, awaited: 198/s"


def test_sweep_without_named_theory_takes_the_claims_about_its_metric(sample: Sample) -> None:
    own = replace(chart(sample, BLOCKED, "sweep"), theory=())
    assert charts.picture(own, data(sample, BLOCKED)).of("correct", "theory").y[-1] == pytest.approx(1000)


def test_sweep_over_two_server_sizes_makes_a_curve_each(sample: Sample) -> None:
    picture = charts.picture(Chart("sweep", "throughput_rps", "t", x="users"), data(sample, BLOCKED))
    names = [one.name for one in picture.series if one.variant == "naive" and one.role == "measured"]
    assert len(names) == 2 and any("workers 1" in name for name in names) and any("workers 2" in name for name in names)


def test_a_ratio_can_be_swept(sample: Sample) -> None:
    ratio = Chart(
        "sweep",
        "correct.throughput_rps / naive.throughput_rps",
        "t",
        x="users",
        conditions=("1 users on 1", "10 users on 1"),
    )
    picture = charts.picture(ratio, data(sample, BLOCKED))
    assert picture.of("").y == pytest.approx((1, 10))
    assert picture.panels[0].unit == "x"


def test_scaling_over_a_parameter_is_a_sweep(sample: Sample) -> None:
    own = replace(chart(sample, BLOCKED, "sweep"), kind="scaling")
    assert charts.picture(own, data(sample, BLOCKED)).of("naive").x == (1, 10, 50)


def test_scaling_reads_rows_at_each_level_with_fit_and_prediction(sample: Sample) -> None:
    picture = drawn(sample, LIMITER, "scaling")
    assert picture.of("naive").x == (0, 500, 1000, 2000, 4000)
    assert picture.of("naive").y == (50, 550, 1050, 2050, 4050)
    assert picture.of("correct").y == (50,) * 5
    assert picture.of("naive", "fit").y == pytest.approx((50, 4050))
    theory = picture.of("naive", "theory")
    assert (theory.x, theory.y) == ((1000,), (1050,))


def test_a_sweep_over_levels_reads_median_service_times(sample: Sample) -> None:
    naive = charts.picture(sample.plan.gotcha(LIMITER).charts[2], data(sample, LIMITER)).of("naive")
    assert naive.x == (0, 500, 1000, 2000, 4000)
    # 1 us for each row before the page, 10 us from planned to sent
    assert naive.y[4] - naive.y[0] == pytest.approx(4000e-6, rel=1e-6)
    assert naive.dots[0][1] == pytest.approx(CALL_S - 10e-6)


def test_counts_stand_beside_the_exact_prediction(sample: Sample) -> None:
    picture = drawn(sample, LIMITER, "counts")
    assert picture.categories == ("nothing moves", "7 inserts a page")
    assert picture.of("naive").y == (0, 35)
    assert picture.of("naive", "theory").y == (0, 35)
    assert picture.of("correct").y == (0, 0)
    with pytest.raises(KeyError):
        picture.of("correct", "theory")


def test_percentiles_merge_pairs_and_stop_where_the_sample_ends(sample: Sample) -> None:
    picture = drawn(sample, BLOCKED, "percentiles")
    correct = picture.of("correct")
    # 50 users, 2 s, 50 ms each, three pairs: about 5,700 requests support p99.9 (3,688) and not p99.99 (36,888)
    assert 0.999 - 1e-9 <= max(correct.x) < 0.9999
    assert correct.y[0] == pytest.approx(CALL_S) and correct.y[-1] == pytest.approx(CALL_S * 1.02)
    assert picture.of("correct", "service").y[0] == pytest.approx(CALL_S - 10e-6)


def test_quantiles_end_at_the_unanswered() -> None:
    import numpy as np

    at, seconds = quantiles(np.arange(1, 91, dtype=np.int64) * 10**9, never=10)
    assert max(at) <= 0.9 and seconds[-1] == pytest.approx(max(at) * 100, abs=1)


def test_quantiles_refuse_what_the_sample_cannot_support() -> None:
    import numpy as np

    at, _ = quantiles(np.arange(1, 73, dtype=np.int64), never=0)
    assert samples_needed(0.95) == 72 and max(at) <= 0.95


def test_ecdf_counts_the_unanswered_in_the_whole(sample: Sample) -> None:
    naive = drawn(sample, BLOCKED, "ecdf").of("naive")
    # 10 users, 0.5 s each, three answers a user (the fourth would end with the load), three pairs, one unanswered in each
    assert naive.y[-1] == pytest.approx(90 / 93)
    assert list(naive.x) == sorted(naive.x) and list(naive.y) == sorted(naive.y)


def test_timeline_puts_its_own_metric_first_and_shades_events(sample: Sample) -> None:
    picture = drawn(sample, BLOCKED, "timeline")
    assert [panel.label for panel in picture.panels] == [
        "event loop late by",
        "answers",
        "latency, median",
        "database connections",
    ]
    assert max(picture.of("naive").y) == pytest.approx(CALL_S)
    assert max(picture.of("correct").y) == pytest.approx(0.001)
    (mark,) = picture.marks
    assert (mark.at, mark.label, mark.until) == (0.5, "worker killed", 0.9)


def test_timeline_rates_add_up_to_the_answers(sample: Sample) -> None:
    correct = drawn(sample, BLOCKED, "timeline").of("correct", panel=1)
    bin_s = correct.x[1] - correct.x[0]
    folder = next(
        f for f in sample.run.trials(BLOCKED) if (f.record.condition, f.record.variant) == ("10-users-on-1", "correct")
    )
    answered = int((open_trial(folder).column("outcome") == 0).sum())
    assert sum(correct.y) * bin_s == pytest.approx(answered)


def test_an_event_without_an_end_is_a_line(sample: Sample) -> None:
    trial = next(t for t in sample.plan.trials if t.gotcha == LIMITER)
    own = replace(record(sample.plan.gotcha(LIMITER), trial), events=(EventSeen("expiry", "redis", 5_250_000_000),))
    (mark,) = marks_of([memory_trial(own, {})])
    assert (mark.at, mark.until) == (0.25, None)


def test_lines_and_bars_are_named_by_what_the_variant_does(sample: Sample) -> None:
    measured = [one for one in drawn(sample, BLOCKED, "sweep").series if one.role == "measured"]
    assert [(one.variant, one.name) for one in measured] == [("naive", "blocking"), ("correct", "awaited")]
    assert drawn(sample, BLOCKED, "cpu").categories == ("blocking", "awaited")
    assert {one.name for one in drawn(sample, BLOCKED, "timeline").series} <= {"blocking", "awaited"}


def test_cpu_is_stacked_per_answered_request(sample: Sample) -> None:
    picture = drawn(sample, BLOCKED, "cpu")
    by_tree = {one.name: one.y for one in picture.series}
    assert picture.columns == ("naive", "correct")
    assert by_tree["server"] == pytest.approx((0.001, 0.0012))
    assert by_tree["generator"] == pytest.approx((0.0002, 0.0002))
    assert list(by_tree) == ["server", "generator"]


def test_heatmap_has_a_panel_per_variant_and_a_cell_per_pair_of_parameters(sample: Sample) -> None:
    picture = drawn(sample, BLOCKED, "heatmap")
    assert [panel.title for panel in picture.panels] == ["blocking", "awaited"]
    assert (picture.columns, picture.categories) == (("1", "10", "50"), ("1", "2"))
    cells = {(one.panel, one.style): one.y for one in picture.series}
    assert cells[0, 1] == pytest.approx((19.80, 39.6, 39.6), rel=1e-3)
    assert cells[1, 0] == pytest.approx((19.80, 198.0, 990.1), rel=1e-3)


def test_forest_divides_by_the_prediction_and_orders_by_kind(sample: Sample) -> None:
    picture = charts.picture(Chart("forest", "", "All"), data(sample, BLOCKED))
    rows = [one for one in picture.series if one.role == "row"]
    assert [row.texts[0] for row in rows] == ["harm", "harm", "mechanism", "fix", "tax"]
    assert rows[1].y[0] == pytest.approx(1.0)
    assert rows[4].y[0] == pytest.approx(1.2 / 1.5)
    bands = [one for one in picture.series if one.role == "theory"]
    assert bands[0].low[0] == pytest.approx(0.9) and bands[2].high == (None,) and bands[4].low == (None,)


def test_forest_keeps_a_zero_that_was_met_and_shows_raw_ratios_on_request(sample: Sample) -> None:
    zero = next(
        s
        for s in charts.picture(Chart("forest", "", "All"), data(sample, LIMITER)).series
        if s.texts and s.texts[0] == "fix"
    )
    assert zero.y == (1.0,)
    raw = charts.picture(Chart("forest", "ratio", "Ratios"), data(sample, BLOCKED))
    assert [one.y[0] for one in raw.series if one.role == "row"] == pytest.approx([10.0, 1.2])


# ---------------------------------------------------------------- what cannot be drawn


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Chart("pie", "x", "t"), "no kind of chart 'pie'"),
        (Chart("sweep", "throughput_rps", "t", x="moon"), "no condition has a parameter 'moon'"),
        (Chart("sweep", "no_such_metric", "t", x="users", conditions=("1 users on 1",)), "was not measured"),
        (Chart("counts", "throughput_rps", "t", conditions=("a full run only",)), "none of its conditions"),
        (Chart("heatmap", "throughput_rps", "t", x="users"), "needs two parameters"),
    ],
)
def test_a_chart_that_cannot_be_drawn_says_why_and_what_next(sample: Sample, bad: Chart, reason: str) -> None:
    with pytest.raises(ChartUnavailable, match=reason) as caught:
        charts.picture(bad, data(sample, BLOCKED))
    assert isinstance(caught.value, LabError) and caught.value.hint


@pytest.mark.parametrize("kind", ["percentiles", "ecdf", "timeline", "cpu"])
def test_charts_over_requests_say_so_where_the_samples_are_gone(sample: Sample, kind: str) -> None:
    bare = replace(data(sample, BLOCKED), folders=tuple)
    with pytest.raises(ChartUnavailable, match=r"samples|sample"):
        charts.picture(chart(sample, BLOCKED, kind), bare)


# ---------------------------------------------------------------- paint


@pytest.mark.parametrize("kind", sorted(charts.KINDS))
def test_every_kind_is_painted_as_svg_for_both_themes_and_as_png(sample: Sample, kind: str, tmp_path: Path) -> None:
    slug = LIMITER if kind in ("counts", "scaling") else BLOCKED
    own = Chart("forest", "", "All claims") if kind == "forest" else chart(sample, slug, kind)
    picture = charts.picture(own, data(sample, slug))
    svg = charts.save(picture, tmp_path / "one")
    ET.fromstring(svg)
    assert picture.title in re.sub(r"<[^>]+>", "", svg).replace("\n", " ") or len(picture.title) > 60
    assert "var(--c-bg" in svg and LIGHT["fg"] in svg
    left_over = [value for value in LIGHT.values() if re.search(rf"(?<!, ){value}", svg)]
    assert not left_over, "colours that no theme can change"
    text = (tmp_path / "one.svg").read_text()
    ET.fromstring(text.encode())
    assert "prefers-color-scheme:dark" in text and DARK["naive"] in text
    png = (tmp_path / "one.png").read_bytes()
    assert png.startswith(b"\x89PNG") and int.from_bytes(png[16:20]) == 1920
    assert charts.stored(tmp_path / "one") == picture


def test_hostile_words_are_text_in_the_svg(sample: Sample, tmp_path: Path) -> None:
    svg = charts.save(drawn(sample, EVIL, "counts"), tmp_path / "evil")
    assert "<script" not in svg and "&lt;script&gt;" in svg


def test_counts_mark_the_predictions_of_every_claim_of_a_variant(sample: Sample, tmp_path: Path) -> None:
    whole = drawn(sample, LIMITER, "counts")
    one = whole.of("naive", "theory")
    halves = [replace(one, x=one.x[cut], y=one.y[cut], low=(), high=()) for cut in (slice(1), slice(1, None))]
    split = replace(whole, series=(*(other for other in whole.series if other != one), *halves))
    svg = charts.save(split, tmp_path / "split")
    assert svg.count("(predicted") == len(one.x) == 2


def test_paint_is_the_same_each_time_and_leaves_no_setting_behind(sample: Sample, tmp_path: Path) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    picture = drawn(sample, BLOCKED, "sweep")
    assert charts.save(picture, tmp_path / "a") == charts.save(picture, tmp_path / "b")
    assert dict(mpl.rcParams) == before
    assert SETTINGS["svg.fonttype"] != before["svg.fonttype"]


def test_charts_are_imported_without_matplotlib() -> None:
    code = "import sys, analysis.charts; print([m for m in sys.modules if m.split('.')[0] == 'matplotlib'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert done.stdout.strip() == "[]"


def test_painting_never_imports_pyplot(sample: Sample) -> None:
    sources = Path(charts.__file__).parent.glob("*.py")
    assert not [
        path.name
        for path in sources
        if "import matplotlib.pyplot" in path.read_text() or "from matplotlib import pyplot" in path.read_text()
    ]


# ---------------------------------------------------------------- all in one step: draw


def draw(sample: Sample, own: Chart, out: Path, slug: str = BLOCKED) -> charts.Drawn:
    trials = [open_trial(one) for one in sample.run.trials(slug)]
    return charts.draw(own, sample.plan.gotcha(slug), sample.gotcha(slug), trials, out, "one")


@pytest.mark.parametrize("kind", sorted(charts.KINDS))
def test_every_kind_is_drawn_in_both_themes_without_a_timestamp(sample: Sample, kind: str, tmp_path: Path) -> None:
    slug = LIMITER if kind in ("counts", "scaling") else BLOCKED
    done = draw(sample, Chart("forest", "", "All") if kind == "forest" else chart(sample, slug, kind), tmp_path, slug)
    assert not done.problem and done.series and done.title in done.alt_text
    names = {"one-light.svg", "one-dark.svg", "one-light.png", "one-dark.png"}
    assert {path.name for path in done.files} == {path.name for path in tmp_path.iterdir()} == names
    for theme, own, other in (("light", LIGHT, DARK), ("dark", DARK, LIGHT)):
        svg = (tmp_path / f"one-{theme}.svg").read_text()
        ET.fromstring(svg.encode())
        assert own["bg"] in svg and other["bg"] not in svg and "var(" not in svg
        assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d|<dc:date>", svg)
        png = (tmp_path / f"one-{theme}.png").read_bytes()
        assert png.startswith(b"\x89PNG") and b"tIME" not in png and b"Software" not in png


@pytest.mark.parametrize(("theme", "palette"), [("light", LIGHT), ("dark", DARK)])
def test_the_png_stands_on_its_themes_background(
    sample: Sample, tmp_path: Path, theme: str, palette: dict[str, str]
) -> None:
    from PIL import Image

    draw(sample, chart(sample, BLOCKED, "sweep"), tmp_path)
    pixel = Image.open(tmp_path / f"one-{theme}.png").convert("RGB").getpixel((2, 2))
    assert pixel == tuple(int(palette["bg"][i : i + 2], 16) for i in (1, 3, 5))


def test_drawing_twice_gives_the_same_bytes(sample: Sample, tmp_path: Path) -> None:
    first, second = (draw(sample, chart(sample, BLOCKED, "sweep"), tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first.files] == [path.read_bytes() for path in second.files]


def test_an_unknown_kind_is_a_usage_error_that_names_the_kinds(sample: Sample, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kind of chart 'pie'") as caught:
        draw(sample, Chart("pie", "x", "t"), tmp_path)
    assert "sweep" in caught.value.hint and not list(tmp_path.iterdir())


def test_a_chart_without_data_is_a_problem_and_no_file(sample: Sample, tmp_path: Path) -> None:
    done = charts.draw(
        chart(sample, BLOCKED, "ecdf"), sample.plan.gotcha(BLOCKED), sample.gotcha(BLOCKED), (), tmp_path, "one"
    )
    assert "samples" in done.problem and "No picture" in done.alt_text
    assert done.series == () and not list(tmp_path.iterdir())


def test_cpu_and_forest_are_drawn_without_a_chart_of_the_scenario(sample: Sample, tmp_path: Path) -> None:
    plan, verdict = sample.plan.gotcha(BLOCKED), sample.gotcha(BLOCKED)
    trials = [open_trial(one) for one in sample.run.trials(BLOCKED)]
    cpu = charts.draw_cpu(plan, verdict, trials, tmp_path, "cpu")
    assert {one.name for one in cpu.series} == {"server", "generator"}
    forest = charts.draw_forest(plan, verdict, tmp_path, "forest")
    assert sum(one.role == "row" for one in forest.series) == len(verdict.claims)
    ratios = charts.draw_forest(plan, verdict, tmp_path, "ratios", ratios=True)
    assert 0 < sum(one.role == "row" for one in ratios.series) < len(verdict.claims)


def test_the_alternative_text_tells_measurement_and_prediction(sample: Sample, tmp_path: Path) -> None:
    done = draw(sample, chart(sample, BLOCKED, "sweep"), tmp_path)
    naive = next(one for one in done.series if (one.variant, one.role) == ("naive", "measured"))
    assert f"{naive.name}: {human(naive.y[0], 'requests/s')} to {human(naive.y[-1], 'requests/s')}" in done.alt_text
    assert "naive theory: " in done.alt_text


# ---------------------------------------------------------------- what the verdict does not hold is measured


def fast_and_slow() -> list[Trial]:
    """Two pairs under one condition: answers after 10 and 12 ms (naive), 2 ms (correct)."""
    began, found = 1_000_000_000, []
    for pair, (naive_ms, correct_ms) in enumerate(((10, 2), (12, 2))):
        for variant, took_ms in (("naive", naive_ms), ("correct", correct_ms)):
            own = TrialRecord(
                "t/g", "one", pair, variant, 1, "ok", load_started_ns=began, load_ended_ns=began + 1_000_000_000
            )
            planned = began + np.arange(100, dtype=np.int64) * 5_000_000
            found.append(memory_trial(own, {
                "planned_ns": planned, "dispatched_ns": planned, "sent_ns": planned, "first_byte_ns": planned + took_ms * 1_000_000,
                "done_ns": planned + took_ms * 1_000_000, "status": np.full(100, 200), "outcome": np.zeros(100, dtype=np.int64),
            }))  # fmt: skip
    return found


def test_a_metric_that_the_verdict_lacks_is_measured_from_the_trials(sample: Sample) -> None:
    plan = replace(
        sample.plan.gotcha(BLOCKED), variants=("naive", "correct"), claims=(),
        conditions=(Condition("one", ClosedLoad(1), 1.0, params={"users": 1}),),
    )  # fmt: skip
    bare = replace(sample.gotcha(BLOCKED), metrics={}, claims=())
    drawing = ChartData(plan, bare, fast_and_slow)
    naive = charts.picture(Chart("sweep", "latency_p50_s", "t", x="users"), drawing).of("naive")
    assert [y for _, y in naive.dots] == [pytest.approx(0.010), pytest.approx(0.012)]
    assert list(naive.y) == [pytest.approx(0.011)]
    ratio = charts.picture(Chart("sweep", "naive.latency_p50_s / correct.latency_p50_s", "t", x="users"), drawing).of(
        ""
    )
    assert [y for _, y in ratio.dots] == [pytest.approx(5.0), pytest.approx(6.0)]


def test_a_variant_with_too_few_answers_for_a_percentile_is_named(sample: Sample) -> None:
    picture = drawn(sample, BLOCKED, "percentiles")
    assert {one.variant for one in picture.series} == {"correct"}
    assert any(note.startswith("blocking: too few answers") for note in picture.notes)


def test_service_that_hides_under_the_corrected_line_is_said(sample: Sample) -> None:
    plan = replace(sample.plan.gotcha(BLOCKED), variants=("naive", "correct"), claims=(),
                   conditions=(Condition("one", ClosedLoad(1), 1.0),))  # fmt: skip
    drawing = ChartData(plan, sample.gotcha(BLOCKED), fast_and_slow)
    picture = charts.picture(Chart("percentiles", "latency", "t"), drawing)
    assert picture.notes[0] == "one, all pairs together" and "is the same here" in picture.notes[1]
    assert picture.of("naive", "service").y == picture.of("naive").y


# ---------------------------------------------------------------- parts


def test_one_colour_and_one_marker_per_variant() -> None:
    variants = ("naive", "correct", "tempting", "slowapi", "limits")
    assert color_of("naive", variants) == color_of("naive", ("naive", "correct"))
    assert len({color_of(v, variants) for v in variants}) == len({marker_of(v, variants) for v in variants}) == 5


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["fg", "muted", "naive", "correct", "tempting", "other1", "other2", "other3"])
def test_words_in_charts_can_be_read(palette: dict[str, str], name: str) -> None:
    """WCAG 2.2, 1.4.3: text against its background at least 4.5 : 1."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    one, two = sorted((luminance(palette[name]), luminance(palette["bg"])))
    assert (two + 0.05) / (one + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0000613, "s/request", "61.3 µs/request"), (0.0034, "s", "3.4 ms"), (0.0009996, "s", "1 ms"), (12.0, "s", "12 s"), (0.0, "s", "0 ms"),
        (4, "x", "4×"), (0.5, "share", "50 %"), (1_500_000, "B", "1.5 MB"), (398.2, "requests/s", "398/s"), (100_050, "", "100,050"),
        (-2.5, "", "−2.5"), (0.996, "", "0.996"), (None, "s", "not measured"), (float("inf"), "s", "never"), (1.0, "per request", "1 per request"),
    ],
)  # fmt: skip
def test_numbers_are_printed_as_people_read_them(value: float | None, unit: str, text: str) -> None:
    assert human(value, unit) == text


def test_ranges_have_one_unit() -> None:
    assert human_range(0.0029, 0.0034, "s") == "2.9 to 3.4 ms"
    assert human_range(4, 4, "x") == "4×"
    assert digits(1234.5) == "1,234"


def test_labels_are_spread_apart_inside_the_axes() -> None:
    places = spread([10, 11, 12, 95], gap=20, height=100)
    assert all(b - a >= 20 - 1e-9 for a, b in pairwise(places)) and max(places) <= 100
    assert spread([10, 50], gap=20, height=100) == [10, 50]


def test_curves_split_only_where_an_x_repeats() -> None:
    def condition(users: int, workers: int) -> Condition:
        return Condition(
            f"{users}/{workers}", ClosedLoad(users), server=Server(workers=workers), params={"users": users}
        )

    chart = Chart("sweep", "m", "t", x="users")
    assert [c.name for c in curves(chart, [condition(1, 1), condition(10, 2)])] == [""]
    assert len(curves(chart, [condition(1, 1), condition(10, 1), condition(10, 2)])) == 2


def test_no_line_of_a_title_holds_a_number_alone() -> None:
    title = "Behind one long job 4 short ones wait while a node idles; with acks_late 0"
    lines = balanced(title, 72)
    assert len(lines) == 2 and " ".join(lines) == title and len(lines[1]) >= 0.4 * len(lines[0])
    assert balanced("short", 72) == ["short"] and balanced("", 72) == [""]
    whole = "a title of two lines of which the second is long enough as it is and stays so, word for word"
    assert balanced(whole, 72)[0] == whole[: len(balanced(whole, 72)[0])]
