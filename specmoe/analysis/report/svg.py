"""A matplotlib figure as SVG inside a page: text stays text, greys follow the page's light or dark scheme."""

import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from specmoe.analysis.report.html import Html, html
from specmoe.analysis.style import write
from specmoe.errors import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Element = ElementTree.Element
SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
MESH = "QuadMesh"  # in the id of a heat map
COLOUR = re.compile(r"#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})\b")
WEIGHTS = (0.2126, 0.7152, 0.0722)  # of red, green and blue in what is seen as brightness (sRGB, BT.709)
DIM = 0.45  # brightness below which a colour is hard to see on a dark page
REFERENCE = re.compile(r"#([\w.-]+)")
LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
FONT = re.compile(r"font-family: [^;]*(; |$)")
UNTURNED = re.compile(r"^rotate\(-?0 [^)]*\)$")


def inline_svg(chart: "Figure", key: str, label: str) -> Html:
    """The figure as an element with an accessible name. `key` is unique in the page. Equal input gives equal text."""
    root = ElementTree.fromstring(_drawn(chart, key))
    box = root.attrib["viewBox"]
    _drop(root)
    kept = _referenced(root)
    for element, stays in list(_walk(root)):
        _clean(element, key, kept, stays)
    inner = "".join(_text(child) for child in root)
    width = float(box.split()[2])
    opened = f'<svg viewBox="{box}" style="max-width:{width * 4 / 3:.0f}px" role="img">'
    return Html(f"{opened}<title>{html(label)}</title>{inner}</svg>")


def _drawn(chart: "Figure", key: str) -> str:
    import matplotlib as mpl

    page = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        write(chart, page, "svg", 72)
    return visible(page.getvalue())  # a control character in a name is no XML


def _drop(root: Element) -> None:
    """Remove metadata, which hold the time, and the style sheet, which would apply to the whole page."""
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in (f"{SVG}metadata", f"{SVG}style")]:
            parent.remove(child)


def _referenced(root: Element) -> set[str]:
    values = (value for element in root.iter() for value in element.attrib.values() if "#" in value)
    return {name for value in values for name in REFERENCE.findall(value)}


def _walk(element: Element, mapped: bool = False, stays: bool = False) -> Iterator[tuple[Element, bool]]:
    """Each element, and whether it keeps its colours, as a heat map and the text on it do."""
    name = element.get("id", "")
    if name.startswith("axes_"):
        mapped = any(child.tag == f"{SVG}image" or MESH in child.get("id", "") for child in element.iter())
    mapped = mapped and not name.startswith(("matplotlib.axis_", "legend_"))
    stays = stays or MESH in name or (mapped and element.tag == f"{SVG}text")
    yield element, stays
    for child in element:
        yield from _walk(child, mapped, stays)


def _clean(element: Element, key: str, kept: set[str], stays: bool) -> None:
    """Remove attributes that a page does not need, make ids unique in it, and greys shades of its ink and paper."""
    raw = dict(element.attrib)
    element.attrib.clear()
    element.tag = element.tag.removeprefix(SVG)
    element.text = (element.text or "").strip() or None if element.tag not in ("text", "tspan") else element.text
    element.tail = None if element.tag != "tspan" else element.tail
    if stays and element.tag in ("text", "g") and "fill" not in raw.get("style", ""):
        raw["style"] = f"fill: #000000; {raw.get('style', '')}"  # the default, which a page changes
    for name, value in raw.items():
        if name == "id":
            if value in kept:
                element.set("id", f"{key}-{value}")
        elif not (name == "transform" and UNTURNED.match(value)):
            element.set(name.removeprefix(XLINK), _value(name, value, key, stays))


def _value(name: str, value: str, key: str, stays: bool) -> str:
    if name == f"{XLINK}href":
        return f"#{key}-{value[1:]}" if value.startswith("#") else value
    value = value.replace("url(#", f"url(#{key}-")
    if name == "style":
        return FONT.sub("", value) if stays else COLOUR.sub(_following, FONT.sub("", value))
    return LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), " ".join(value.split()))


def _following(found: re.Match[str]) -> str:
    """A colour that follows the page's scheme: greys range from ink to paper, dim colours lighten on a dark page."""
    red, green, blue = (int(part, 16) for part in found.groups())
    if red == green == blue:
        share = 100 - round(red / 2.55)
        return {0: "var(--paper)", 100: "var(--ink)"}.get(share, f"color-mix(in srgb,var(--ink) {share}%,var(--paper))")
    brightness = sum(weight * part for weight, part in zip(WEIGHTS, (red, green, blue), strict=True)) / 255
    return f"color-mix(in srgb,{found[0]} var(--dim),white)" if brightness < DIM else found[0]


def _text(element: Element) -> str:
    return ElementTree.tostring(element, encoding="unicode", short_empty_elements=True)
