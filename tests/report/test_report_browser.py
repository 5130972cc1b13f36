"""The page in a real browser: it loads by itself, sorts, filters, prints, and can be read in every scheme and width."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, executable, running
from random_traces import META, random_block
from report_cases import COMMAND, sweep_dir, timeline_dir, validation_dir
from sweep_rows import guess, table

import specmoe.traces
from specmoe.analysis.report import read_inputs, write_report
from specmoe.analysis.trace.job import analyze, save_analysis
from specmoe.traces import write_trace

FOUND = executable()
pytestmark = pytest.mark.skipif(FOUND is None, reason="no Chromium is installed")
SCHEMES = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
TABLE = "document.getElementById('results-1-cells')"

# Contrast of all text that is seen with what it stands on (WCAG 2.2, 1.4.3), worst first; heat maps aside, whose text
# stands on their own colours.
CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return Array.from(canvas.getImageData(0, 0, 1, 1).data);
  };
  const light = (colour) => {
    const [r, g, b] = rgba(colour).slice(0, 3).map((c) => c / 255)
      .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgba(colour)[3] === 255) return colour;
    }
    return 'white';
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = Array.from(element.childNodes).some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || ['SCRIPT', 'title'].includes(element.tagName)) continue;
    const style = getComputedStyle(element), drawn = element.closest('svg');
    if (drawn && element.getAttribute('style')?.match('fill: #(000000|ffffff)')) continue;
    const [a, b] = [light(drawn ? style.fill : style.color), light(ground(element))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), element.textContent.trim().slice(0, 40)]);
  }
  return found.sort(([a], [b]) => a - b).slice(0, 3);
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert FOUND is not None
    with running(FOUND, tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each, the second sweep with many long names."""
    place = tmp_path_factory.mktemp("page")
    (place / "routing").mkdir()
    write_trace(place / "random.parquet", META, [random_block(60, META, 0)])
    save_analysis(analyze(specmoe.traces.open(str(place / "random.parquet"))), place / "routing")
    crowd = table(*(guess(f"a-policy-with-a-rather-long-name-{n:02}", 3 + n) for n in range(8)))
    directories = [
        *(sweep_dir(place / "swept"), sweep_dir(place / "crowded", crowd), validation_dir(place / "checked")),
        *(timeline_dir(place / "demo"), place / "routing"),
    ]
    write_report(read_inputs(directories), place / "page.html", COMMAND)
    return place / "page.html"


def column(browser: Browser, number: int) -> list[str]:
    """Texts of the cells that are seen."""
    rows = f"Array.from({TABLE}.tBodies[0].rows).filter((row) => !row.hidden)"
    return list(browser.value(f"{rows}.map((row) => row.cells[{number}].textContent)"))


def numbers(browser: Browser, number: int) -> list[float]:
    return [float(cell) for cell in column(browser, number) if cell != "\N{EN DASH}"]


def press(browser: Browser, number: int) -> str:
    """Press a header's button; how the column is sorted now."""
    header = f"{TABLE}.tHead.rows[0].cells[{number}]"
    browser.value(f"{header}.querySelector('button').click()")
    return str(browser.value(f"{header}.getAttribute('aria-sort')"))


def filter_by(browser: Browser, words: str) -> str:
    """Type into the field; what is said of the rows."""
    field = "document.getElementById('results-1-cells-filter')"
    browser.value(f"{field}.value = {json.dumps(words)}; {field}.dispatchEvent(new Event('input'))")
    return str(browser.value(f"{field}.closest('p').querySelector('output').textContent"))


@SCHEMES
def test_it_loads_alone_and_without_complaint(dark: bool, browser: Browser, page: Path) -> None:
    browser.open(page, dark=dark)
    complaints = browser.of("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
    assert complaints == []
    requests = [sent["request"]["url"] for sent in browser.of("Network.requestWillBeSent")]
    assert [url for url in requests if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.of("Network.loadingFailed") == []


def test_what_is_not_its_own_script_does_not_run(browser: Browser, page: Path) -> None:
    altered = page.with_name("altered.html")
    altered.write_text(page.read_text().replace("<h1>", "<h1><script>document.title = 'taken over'</script>", 1))
    browser.open(altered)
    assert "fastest" in browser.value("document.title")
    assert browser.of("Log.entryAdded")[0]["entry"]["source"] == "security"


def test_headers_sort(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.value(f"{TABLE}.querySelector('[aria-sort]').textContent") == "step, ms"
    assert numbers(browser, 3) == sorted(numbers(browser, 3))
    assert press(browser, 5) == "ascending"
    assert numbers(browser, 5) == sorted(numbers(browser, 5))
    assert press(browser, 5) == "descending"
    assert numbers(browser, 5) == sorted(numbers(browser, 5), reverse=True)
    assert browser.value(f"{TABLE}.querySelectorAll('[aria-sort]').length") == 1


def test_cells_without_a_number_are_last_either_way(browser: Browser, page: Path) -> None:
    browser.open(page)
    for _ in range(2):
        press(browser, 8)  # precision of prefetches, which most do not have
        empty = [cell == "\N{EN DASH}" for cell in column(browser, 8)]
        assert empty == sorted(empty)
        assert any(empty) and not all(empty)


def test_text_sorts_as_text(browser: Browser, page: Path) -> None:
    browser.open(page)
    press(browser, 0)
    assert column(browser, 0) == sorted(column(browser, 0))
    press(browser, 0)
    assert column(browser, 0) == sorted(column(browser, 0), reverse=True)


def test_the_keyboard_sorts(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.value(f"{TABLE}.tHead.rows[0].cells[1].querySelector('button').focus()")
    browser.press_enter()
    assert browser.value(f"{TABLE}.tHead.rows[0].cells[1].getAttribute('aria-sort')") == "ascending"
    assert numbers(browser, 1) == sorted(numbers(browser, 1))


def test_the_filter_filters(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.value("document.querySelector('.filter').checkVisibility()") is True
    assert filter_by(browser, "LOOKahead 128") == "2 of 25 rows"
    assert column(browser, 0) == ["lookahead"] * 2
    assert filter_by(browser, "no train split") == "1 of 25 rows"
    assert filter_by(browser, "nothing like it") == "0 of 25 rows"
    assert filter_by(browser, "") == "25 of 25 rows"
    assert filter_by(browser, "lookahead 128 ") == "2 of 25 rows"
    press(browser, 3)
    assert column(browser, 0) == ["lookahead"] * 2


def test_it_is_read_without_a_script(browser: Browser, page: Path) -> None:
    browser.open(page, script=False)
    assert browser.value("document.querySelectorAll('th button').length") == 0
    assert browser.value("document.querySelector('.filter').checkVisibility()") is False
    assert len(column(browser, 0)) == 25


@SCHEMES
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_does_not_scroll_sideways(width: int, dark: bool, browser: Browser, page: Path) -> None:
    browser.open(page, width, dark)
    assert browser.value("document.documentElement.scrollWidth") == width


def test_the_answer_is_on_the_first_screen(browser: Browser, page: Path) -> None:
    for width in (390, 1280):
        browser.open(page, width)
        ends = "Array.from(document.querySelectorAll('h1, .facts dd'), (each) => each.getBoundingClientRect().bottom)"
        assert max(browser.value(ends)) < 800, f"{width} px wide"
    assert browser.value("document.querySelector('.notes li').getBoundingClientRect().bottom") < 800


@SCHEMES
def test_contrast(dark: bool, browser: Browser, page: Path) -> None:
    browser.open(page, dark=dark)
    worst = browser.value(CONTRAST)
    assert worst[0][0] >= 4.5, worst
    paper = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(18, 20, 23)") is dark


def test_lines_are_seen_in_the_dark(browser: Browser, page: Path) -> None:
    """The dimmest of the figures' colours (of their colour map); graphics need a contrast of 3 (WCAG 2.2, 1.4.11)."""
    browser.open(page, dark=True)
    browser.value("document.querySelector('h1').style.color = 'color-mix(in srgb, #00224e var(--dim), white)'")
    browser.value(
        "document.querySelectorAll('body > :not(header), header > :not(h1), h1 *').forEach((e) => e.remove())"
    )
    assert browser.value(CONTRAST)[0][0] >= 3


def test_it_prints(browser: Browser, page: Path) -> None:
    browser.open(page, dark=True)
    assert browser.pdf().startswith(b"%PDF-")
    browser.open(page, 720, dark=True, media="print")
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.value("document.querySelector('.filter').checkVisibility()") is False
    assert browser.value("document.querySelector('nav').checkVisibility()") is False
    frame = "document.querySelector('.scroll:has(.sortable)')"
    assert browser.value(f"{frame}.scrollHeight <= {frame}.clientHeight + 1"), "rows would be cut off"
    assert browser.value(CONTRAST)[0][0] >= 4.5


def test_links_to_timelines_lead_to_files(browser: Browser, page: Path) -> None:
    browser.open(page)
    (link,) = browser.value("Array.from(document.querySelectorAll('#timelines li a'), (link) => link.href)")
    assert link == (page.parent / "demo" / "timeline.json").resolve().as_uri()
