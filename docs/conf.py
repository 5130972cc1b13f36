"""Sphinx: `make docs` builds these pages into out/docs."""

from importlib.metadata import version as installed

project = "specmoe"
release = version = installed("specmoe")
extensions = ["myst_parser"]
exclude_patterns = ["runs"]
html_theme = "furo"
html_title = f"specmoe {release}"
html_copy_source = False
html_show_copyright = False
myst_heading_anchors = 3
nitpicky = True
