"""Elements, tables, and drawings inside a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from report_cases import parsed, rows_of, text

from specmoe.analysis.report.html import Column, Html, Row, breakable, join, plain_table, sortable_table, tag
from specmoe.analysis.report.svg import inline_svg
from specmoe.analysis.style import COLOURS, figure

# Markup


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (tag("p", "a<b"), "<p>a&lt;b</p>"),
        (tag("p", tag("b", "&"), " ", 3), "<p><b>&amp;</b> 3</p>"),
        (tag("p", None), "<p></p>"),
        (tag("th", "x", scope="col", class_="number"), '<th scope="col" class="number">x</th>'),
        (tag("a", "x", href='"><script>'), '<a href="&quot;&gt;&lt;script&gt;">x</a>'),
        (tag("td", aria_hidden="true", data_sorted=2), '<td aria-hidden="true" data-sorted="2"></td>'),
        (tag("p", hidden=True, title=None), "<p hidden></p>"),
        (tag("input", type="search"), '<input type="search">'),
        (join(["<", Html("<br>")]), "&lt;<br>"),
    ],
)
def test_markup(made: Html, expected: str) -> None:
    assert made == expected
    assert isinstance(made, Html)


def test_what_is_put_together_by_hand_is_text_again() -> None:
    assert tag("p", tag("b", "x") + "<i>") == "<p>&lt;b&gt;x&lt;/b&gt;&lt;i&gt;</p>"


def test_long_names_may_be_broken() -> None:
    made = breakable("device.memory_bandwidth<1.5. Yes")
    assert made == "device.<wbr>memory_bandwidth&lt;1.5. Yes"


# Tables


COLUMNS = [Column("policy"), Column("ms", "mean", number=True)]


def test_table() -> None:
    (table,) = parsed(plain_table("All. Of them.", COLUMNS, [Row(["a<b", 1], "best"), Row(["c", 2])])).iter("table")
    assert list(rows_of(table)) == [["policy", "ms"], ["a<b", "1"], ["c", "2"]]
    assert text(table[0]) == "All. Of them."
    head, first, second = table.iter("tr")
    assert [cell.get("scope") for cell in head] == ["col", "col"]
    assert [cell.tag for cell in first] == ["th", "td"]
    assert [first.get("class"), second.get("class")] == ["best", None]
    assert [cell.get("class") for cell in second] == [None, "number"]


def test_a_table_can_be_scrolled_with_the_keyboard() -> None:
    (frame,) = parsed(plain_table("All. Of them.", COLUMNS, []))
    assert (frame.get("tabindex"), frame.get("role"), frame.get("aria-label")) == ("0", "region", "All")


def test_what_needs_a_script_is_not_shown_without() -> None:
    made = parsed(sortable_table("cells", "All", COLUMNS, [Row(["a", 1])], first=1))
    (controls,) = made.iter("p")
    assert controls.get("hidden") is not None
    assert [label.get("for") for label in made.iter("label")] == [field.get("id") for field in made.iter("input")]
    assert not list(made.iter("button"))


def test_a_row_has_a_cell_for_each_column() -> None:
    with pytest.raises(ValueError, match="zip"):
        plain_table("All", COLUMNS, [Row(["a"])])


# Drawings


def chart() -> Figure:
    """A line, grey and dim and bright, with a legend; and a heat map with text on it."""
    drawn, (left, right) = figure(1, 2)
    left.plot([1, 2, 3], [3, 1, 2], "o-", label="a<b", color=COLOURS[0])
    left.plot([1, 2], [1, 1], color=COLOURS[5])
    left.axhline(2, color="0.5")
    left.text(1, 1, "on paper", color="black")
    left.legend()
    right.pcolormesh(np.eye(3), cmap="gray")
    right.text(1, 1, "on the map", color="black")
    right.text(2, 1, "lit", color="white")
    right.set_title("of the map")
    return drawn


@pytest.fixture(scope="module")
def drawing() -> str:
    return inline_svg(chart(), "one", "What & why")


def style_of(drawing: str, said: str) -> str:
    (found,) = [each for each in ElementTree.fromstring(drawing).iter("text") if said in "".join(each.itertext())]
    return found.get("style", "")


def test_text_stays_text_in_the_pages_font(drawing: str) -> None:
    assert "a&lt;b" in drawing
    assert "font-family" not in drawing


def test_name_and_size(drawing: str) -> None:
    root = ElementTree.fromstring(drawing)
    assert root[0].tag == "title"
    assert root[0].text == "What & why"
    assert root.get("role") == "img"
    assert root.get("viewBox", "").startswith("0 0 720 ")
    assert root.get("style") == "max-width:960px"
    assert "width" not in root.attrib


def test_nothing_that_tells_the_time_or_styles_the_page(drawing: str) -> None:
    assert "<metadata" not in drawing
    assert "<style" not in drawing
    assert "<?xml" not in drawing
    assert "<!DOCTYPE" not in drawing


def test_same_figure_same_text(drawing: str) -> None:
    assert inline_svg(chart(), "one", "What & why") == drawing


def test_two_of_a_figure_share_no_id(drawing: str) -> None:
    other = inline_svg(chart(), "two", "What & why")
    ids = [set(re.findall(r' id="([^"]+)"', each)) for each in (drawing, other)]
    assert ids[0] and all(name.startswith("one-") for name in ids[0])
    assert not ids[0] & ids[1]
    for found, names in zip((drawing, other), ids, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", found)) | set(re.findall(r'href="#([^"]+)"', found)) == names


def test_colours_follow_the_scheme(drawing: str) -> None:
    assert "var(--ink)" in style_of(drawing, "on paper") or "fill" not in style_of(drawing, "on paper")
    assert "stroke: var(--ink)" in drawing
    assert "fill: var(--paper)" in drawing
    assert "color-mix(in srgb,var(--ink) 50%,var(--paper))" in drawing
    assert f"color-mix(in srgb,{COLOURS[0].lower()} var(--dim),white)" in drawing


def test_bright_colours_stay(drawing: str) -> None:
    bright = COLOURS[5].lower()
    assert f"stroke: {bright}" in drawing
    assert f"color-mix(in srgb,{bright}" not in drawing


def test_a_heat_map_and_text_on_it_stay_as_they_are(drawing: str) -> None:
    assert "fill: #000000" in style_of(drawing, "on the map")
    assert "fill: #ffffff" in style_of(drawing, "lit")
    (mesh,) = [g for g in ElementTree.fromstring(drawing).iter("g") if g.get("style", "").startswith("fill: #000000")]
    assert [path.get("style") for path in mesh] == ["fill: #ffffff", None, None, None] * 2 + ["fill: #ffffff"]


def test_default_black_on_a_heat_map_is_said() -> None:
    drawn, axes = figure(1, 1)
    axes.imshow(np.eye(2))
    axes.text(0, 0, "plain")
    assert "fill: #000000" in style_of(inline_svg(drawn, "map", ""), "plain")


def test_an_image_is_in_the_page() -> None:
    drawn, axes = figure(1, 1)
    axes.imshow(np.eye(2))
    assert 'href="data:image/png;base64,' in inline_svg(drawn, "map", "")


def test_positions_are_rounded(drawing: str) -> None:
    outside = re.sub(r'(style|href)="[^"]*"', "", drawing)
    assert re.findall(r"\d\.\d{3,}", outside) == []


def test_control_characters_of_a_name_are_visible_in_the_page() -> None:
    name = "a\x1b[31m\u202eb\x9bc"
    assert tag("p", name, title=name) == r'<p title="a\x1b[31m\u202eb\x9bc">a\x1b[31m\u202eb\x9bc</p>'
    figure = Figure()
    figure.suptitle(name)
    drawn = inline_svg(figure, "k", name)
    assert drawn.count(r"a\x1b[31m\u202eb\x9bc") == 2
    assert "\x1b" not in drawn
