"""The pages build without a warning: links between and within them, images, every page in the contents."""

from __future__ import annotations

import shutil
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest
from doc_pages import DOCS, pages

sphinx = pytest.importorskip("sphinx.cmd.build", reason="the docs extra is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")  # Sphinx's


def build(source: Path, out: Path) -> tuple[int, str]:
    """As `make docs` does: exit status and complaints."""
    options = ["-n", "-W", "--keep-going", "-q", "-d", str(out / "doctrees")]
    with redirect_stderr(StringIO()) as complaints:
        status = sphinx.build_main([*options, str(source), str(out / "html")])
    return status, complaints.getvalue()


def test_every_page_and_image_is_built(tmp_path: Path) -> None:
    status, complaints = build(DOCS, tmp_path)
    assert status == 0, complaints
    for page in (page.relative_to("docs") for page in pages() if page.parts[0] == "docs"):
        assert (tmp_path / "html" / page.with_suffix(".html")).exists()
    assert len(list((tmp_path / "html/_images").glob("*.png"))) > 5


@pytest.mark.parametrize(
    ("added", "complaint"),
    [
        ("[nowhere](gone.md)", "gone.md"),
        ("[no heading](glossary.md#gone)", "gone"),
        ("![no image](gone.png)", "gone.png"),
    ],
)
def test_what_is_broken_stops_the_build(tmp_path: Path, added: str, complaint: str) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    for name in ("conf.py", "glossary.md"):
        shutil.copy(DOCS / name, source)
    (source / "index.md").write_text(f"# Title\n\n{added}\n\n```{{toctree}}\nglossary\n```\n")
    status, complaints = build(source, tmp_path)
    assert status != 0
    assert complaint in complaints
