"""The pages in a real browser: headless Chromium of the system, on the stored sample run.  Skipped with a reason where it is missing."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from analysis.compare import Answer, Cell, Comparison
from analysis.report.build import build_report, page_name
from analysis.report.comparison import build_comparison
from analysis.statistics import of_ratios
from tests.sample_run import BLOCKED, EVIL, HOSTILE, LIMITER, Sample, build

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
WIDTHS = (360, 1440)
THEMES = ("light", "dark")
PAGES = ("index.html", "compare.html", page_name(BLOCKED), page_name(LIMITER), page_name(EVIL))
WAIT_S = 10

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on the PATH"),
    pytest.mark.skipif(CHROMEDRIVER is None, reason="chromedriver is not on the PATH"),
]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return build(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def site(sample: Sample) -> Path:
    folder = build_report(sample.run.path, sample.root).parent
    build_comparison(sample.run, sample.root, [compared(BLOCKED, "Blocked"), compared(EVIL, HOSTILE)], folder)
    return folder


def compared(slug: str, title: str) -> Comparison:
    """A comparison with a word, a configuration that failed with hostile words, and one server."""
    harm = [of_ratios([value, value * 1.01, value * 0.99]) for value in (9.0, 2.5)]
    cells = (
        Cell("uvicorn", 1, "", "1", 10.0, 90.0, harm[0]), Cell("uvicorn", 4, "", "4", 36.0, 90.0, harm[1]),
        Cell("granian", 1, "", "g1", None, None, None, f"{HOSTILE} is not installed"), Cell("granian", 4, "", "g4", None, None, None, HOSTILE),
    )  # fmt: skip
    answers = (
        Answer("workers", "uvicorn", cells[0], cells[1], "smaller", of_ratios([0.27, 0.28, 0.29])),
        Answer("workers", "granian", cells[2], cells[3], "not told", None, HOSTILE),
    )
    return Comparison(slug, title, "throughput_rps", "requests/s", True, cells, answers)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")
    browser = webdriver.Chrome(options=options, service=Service(executable_path=str(CHROMEDRIVER)))
    yield browser
    browser.quit()


@pytest.fixture(params=THEMES)
def theme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def show(
    driver: webdriver.Chrome, site: Path, page: str, width: int = 1440, theme: str = "light", script: bool = True
) -> None:
    """Open a page at a width and under a system theme, without what earlier pages stored or said."""
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"media": "", "features": [{"name": "prefers-color-scheme", "value": theme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.get("about:blank")
    logged(driver)
    driver.get((site / page).as_uri())


def logged(driver: webdriver.Chrome) -> list[Any]:
    """What the console said since it was last asked."""
    return list(driver.get_log("browser"))  # type: ignore[no-untyped-call]


def run(driver: webdriver.Chrome, script: str) -> Any:
    return driver.execute_script(f"return {script}")


def find(driver: webdriver.Chrome, selector: str) -> WebElement:
    return driver.find_element(By.CSS_SELECTOR, selector)


def rows(driver: webdriver.Chrome) -> list[str]:
    """Titles of the visible rows of the matrix, top to bottom."""
    found = driver.find_elements(By.CSS_SELECTOR, "#matrix tbody tr")
    return [str(row.get_attribute("data-title")) for row in found if row.is_displayed()]


# ---------------------------------------------------------------- every page


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_opens_quietly_and_fits(driver: webdriver.Chrome, site: Path, page: str, width: int, theme: str) -> None:
    show(driver, site, page, width, theme)
    assert logged(driver) == []
    assert run(driver, "document.documentElement.scrollWidth") <= width
    assert run(driver, "document.readyState") == "complete"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_with_everything_unfolded(driver: webdriver.Chrome, site: Path, page: str) -> None:
    show(driver, site, page, 360)
    driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert run(driver, "document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("page", PAGES)
def test_a_page_asks_for_nothing_but_its_own_files(driver: webdriver.Chrome, site: Path, page: str) -> None:
    show(driver, site, page)
    asked = run(driver, "performance.getEntriesByType('resource').map(one => one.name)")
    assert [url for url in asked if not url.startswith(site.as_uri())] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve_and_files_open(driver: webdriver.Chrome, site: Path, page: str) -> None:
    show(driver, site, page)
    links = run(driver, "[...document.querySelectorAll('a[href]')].map(a => a.href)")
    local = {url.partition("#")[0] for url in links if url.startswith("file:")}
    assert local and [url for url in local if not Path(unquote(urlsplit(url).path)).is_file()] == []
    missing = run(
        driver,
        "[...document.querySelectorAll('a[href^=\"#\"]')].filter(a => !document.getElementById(a.hash.slice(1))).length",
    )
    assert missing == 0


@pytest.mark.parametrize("page", PAGES)
def test_text_can_be_read_in_both_themes(driver: webdriver.Chrome, site: Path, page: str, theme: str) -> None:
    """WCAG 2.2, 1.4.3: every text on its own background at least 4.5 : 1 (3 : 1 for large text), computed from what is rendered."""
    show(driver, site, page, 1440, theme)
    assert run(driver, CONTRAST) == []


CONTRAST = """(() => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
  const luminance = c => { const l = c.slice(0, 3).map(v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
    return .2126 * l[0] + .7152 * l[1] + .0722 * l[2]; };
  const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; }
    return [255, 255, 255, 1]; };
  const bad = [];
  for (const e of document.querySelectorAll('body *:not(svg *):not(option)')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility({visibilityProperty: true}) || e.closest('.hidden, .skip, .theme-word')) continue;
    const style = getComputedStyle(e), a = luminance(parse(style.color)), b = luminance(ground(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) bad.push([e.tagName, e.className, e.textContent.slice(0, 30), ratio.toFixed(2)]);
  }
  return bad.slice(0, 10);
})()"""


# ---------------------------------------------------------------- themes


def test_the_system_chooses_the_theme_and_the_button_overrules_it(
    driver: webdriver.Chrome, site: Path, theme: str
) -> None:
    show(driver, site, "index.html", 1440, theme)
    driver.execute_script("localStorage.removeItem('lab-theme')")
    driver.refresh()
    ground = "getComputedStyle(document.body).backgroundColor"
    first = run(driver, ground)
    assert (sum(int(part) for part in first[4:-1].split(",")) > 384) == (theme == "light")
    find(driver, "#theme").click()
    assert run(driver, ground) != first
    driver.get((site / page_name(BLOCKED)).as_uri())
    assert run(driver, ground) != first, "the choice holds on the next page"
    find(driver, "#theme").click()
    assert run(driver, ground) == first
    driver.execute_script("localStorage.removeItem('lab-theme')")


def test_charts_follow_the_theme(driver: webdriver.Chrome, site: Path) -> None:
    fills = []
    for theme in THEMES:
        show(driver, site, page_name(BLOCKED), 1440, theme)
        fills.append(run(driver, "getComputedStyle(document.querySelector('.chart svg path')).fill"))
    assert fills[0] != fills[1]


# ---------------------------------------------------------------- filter and sort


def test_the_filter_narrows_by_word_topic_part_and_verdict(driver: webdriver.Chrome, site: Path) -> None:
    show(driver, site, "index.html")
    everything = rows(driver)
    assert len(everything) == 3
    find(driver, "#f-text").send_keys("blocked LOOP")
    assert rows(driver) == ["A blocked loop"]
    assert find(driver, "#f-count").text == "1 of 3"
    find(driver, "#filter button[type=reset]").click()
    WebDriverWait(driver, WAIT_S).until(lambda d: rows(d) == everything)
    Select(find(driver, "#f-topic")).select_by_value("api_design")
    assert rows(driver) == ["Deep pages"]
    find(driver, "#filter button[type=reset]").click()
    WebDriverWait(driver, WAIT_S).until(lambda d: rows(d) == everything)
    Select(find(driver, "#f-part")).select_by_visible_text("7")
    assert rows(driver) == ["A blocked loop"]
    Select(find(driver, "#f-verdict")).select_by_visible_text("Invalid")
    assert rows(driver) == [] and find(driver, "#f-empty").is_displayed()


def test_sorting_says_how_and_works_from_the_keyboard(driver: webdriver.Chrome, site: Path) -> None:
    show(driver, site, "index.html")
    head = find(driver, "th[data-sort=title]")
    button = head.find_element(By.CSS_SELECTOR, "button")
    button.send_keys(Keys.ENTER)
    assert rows(driver) == [HOSTILE, "A blocked loop", "Deep pages"]
    assert head.get_attribute("aria-sort") == "ascending"
    button.send_keys(Keys.SPACE)
    assert rows(driver) == ["Deep pages", "A blocked loop", HOSTILE]
    assert head.get_attribute("aria-sort") == "descending"
    assert len(driver.find_elements(By.CSS_SELECTOR, "#matrix th[aria-sort]")) == 1


# ---------------------------------------------------------------- keyboard, no script, hostile words


def test_the_first_tab_skips_to_the_content(driver: webdriver.Chrome, site: Path) -> None:
    show(driver, site, page_name(BLOCKED))
    find(driver, "body").send_keys(Keys.TAB)
    skip = driver.switch_to.active_element
    assert skip.get_attribute("class") == "skip" and skip.rect["y"] >= 0
    assert skip.value_of_css_property("outline-style") == "solid"
    skip.send_keys(Keys.ENTER)
    assert driver.switch_to.active_element.get_attribute("id") == "main"


def test_wide_boxes_can_be_scrolled_from_the_keyboard(driver: webdriver.Chrome, site: Path) -> None:
    show(driver, site, page_name(BLOCKED), 360)
    stuck = run(
        driver,
        "[...document.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth && b.tabIndex !== 0).length",
    )
    assert stuck == 0


@pytest.mark.parametrize("page", PAGES)
def test_without_a_script_the_content_is_all_there(driver: webdriver.Chrome, site: Path, page: str) -> None:
    show(driver, site, page)
    with_script = find(driver, "main").text
    show(driver, site, page, script=False)
    try:
        without = find(driver, "main").text
        hidden = [one.is_displayed() for one in driver.find_elements(By.CSS_SELECTOR, ".needs-script")]
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert not any(hidden)
    controls = {"Search", "Topic", "Part", "Verdict", "all", "Clear"}
    lines = [line for line in with_script.splitlines() if line.strip() and line.split(" ")[0] not in controls]
    missing = [line for line in lines if line.rstrip(" ↕↑↓") not in without and not line.endswith(" of 3")]
    assert len(missing) <= len(rows_of_controls(with_script)), missing[:5]


def rows_of_controls(text: str) -> list[str]:
    """Lines that belong to the filter's own controls: the options of its lists."""
    start, end = text.find("Search"), text.find("Gotcha ")
    return text[start:end].splitlines() if 0 <= start < end else []


def test_a_title_that_is_a_script_stays_text(driver: webdriver.Chrome, site: Path) -> None:
    show(driver, site, page_name(EVIL))
    with pytest.raises(Exception, match="no such alert"):
        _ = driver.switch_to.alert.text
    assert find(driver, "h1").text == HOSTILE
    assert HOSTILE in driver.title
    assert run(driver, "document.querySelectorAll('main script, main img, [onerror]').length") == 0
    show(driver, site, "index.html")
    assert HOSTILE in rows(driver)


def test_the_side_by_side_lines_are_level(driver: webdriver.Chrome, site: Path) -> None:
    show(driver, site, page_name(BLOCKED))
    tops = run(
        driver,
        "[...document.querySelectorAll('.sides')].slice(0, 1).map(s => [...s.querySelectorAll('table')].map("
        "t => [...t.rows].map(r => Math.round(r.getBoundingClientRect().top))))[0]",
    )
    assert tops[0] == tops[1] and len(tops[0]) > 5


def test_print_shows_the_content_and_not_the_controls(driver: webdriver.Chrome, site: Path) -> None:
    show(driver, site, page_name(BLOCKED))
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    assert not find(driver, ".top").is_displayed() and find(driver, ".answer").is_displayed()
    assert run(driver, "getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
