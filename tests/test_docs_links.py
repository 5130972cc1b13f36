"""Every relative link and image of README, CONTRIBUTING and docs points to something that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_pages import FENCE, ROOT, pages

LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?\)")
SOURCE = re.compile(r"`((?:specmoe|tests|benchmarks|docs|validation)/[\w./-]*)`")
ELSEWHERE = ("http://", "https://", "mailto:")


def links(text: str) -> list[str]:
    """Targets of the links and images, those shown in code aside."""
    return LINK.findall(re.sub(r"`[^`\n]*`", "", FENCE.sub("", text)))


def anchors(text: str) -> set[str]:
    """What GitHub and MyST call the headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def wrong(page: Path) -> list[str]:
    """Targets that are not there."""
    found = []
    for target in links(page.read_text()):
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        if target.startswith(ELSEWHERE):
            continue
        if not there.exists() or (anchor and anchor not in anchors(there.read_text())):
            found.append(target)
    return found


@pytest.mark.parametrize("page", pages(), ids=str)
def test_relative_links_lead_somewhere(page: Path) -> None:
    assert not wrong(ROOT / page)


@pytest.mark.parametrize("page", pages(), ids=str)
def test_named_files_exist(page: Path) -> None:
    paths = SOURCE.findall(FENCE.sub("", (ROOT / page).read_text()))
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_design_names_the_files_to_read_first() -> None:
    guide = (ROOT / "docs/design.md").read_text().partition("\n## Where the code is\n")[2].partition("\n## ")[0]
    assert {Path(path).name for path in SOURCE.findall(guide)} >= {"director.py", "engine.py", "retimer_kernel.py"}


def test_there_are_links_at_all() -> None:
    assert sum(len(links((ROOT / page).read_text())) for page in pages()) > 40


def test_what_would_be_wrong_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One, two: three\n[a](page.md#one-two-three) [b](#nowhere) ![c](gone.png) [d](gone.md#one) `[e](code.md)`\n"
        "```md\n[f](fenced.md)\n```\n[g](https://example.org/x) [h](<#one-two-three>)\n"
    )
    assert wrong(page) == ["#nowhere", "gone.png", "gone.md#one"]


@pytest.mark.parametrize("page", pages(), ids=str)
def test_nothing_points_to_what_only_a_build_leaves(page: Path) -> None:
    targets = [target for target in links((ROOT / page).read_text()) if not target.startswith(ELSEWHERE)]
    paths = [((ROOT / page).parent / target).resolve() for target in targets]
    assert not [path for path in paths if path.is_relative_to(ROOT / "out") or not path.is_relative_to(ROOT)]
