"""Sphinx makes one site of this folder, the README and the other Markdown pages: "make docs".

The source directory is the top of the checkout, so that every link works that works on a forge. Nothing is fetched.
"""

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

project = "usb-provider"
copyright = "the authors of usb-provider"
extensions = [
    "myst_parser",
    "openstackdocstheme",
    "oslo_config.sphinxext",
    "sphinx.ext.autodoc",
    "sphinxarg.ext",
]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "devstack/README.md",
    "docs/**",
    "tests/*/README.md",
    "usb_provider/demo/recordings/*/README.md",
]
# The second is a project of its own. The rest is only not to be searched.
exclude_patterns = [
    "docs/*.py",
    "docs/man",
    "docs/templates",
    ".*",
    "build",
    "conf",
    "placement_traits",
    "releasenotes",
    "**/__pycache__",
]

html_theme = "openstackdocs"
templates_path = ["templates"]
html_static_path = ["static"]
html_css_files = ["tables.css"]
smartquotes = False  # or --fix becomes –fix where it is no code
html_theme_options = {
    # Nobody is told who reads what, and nothing is fetched.
    "analytics_tracking_code": "",
    "display_badge": False,
    "sidebar_mode": "toctree",
}
openstackdocs_auto_name = False
openstackdocs_auto_version = False
openstackdocs_pdf_link = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
# Not oslo.config's, which breaks at a name that is none of an option.
myst_ref_domains = ["std", "py"]
# Python's own names, whose pages would have to be fetched.
nitpick_ignore_regex = [(r"py:.*", r"(argparse|collections|datetime|enum|pathlib|typing|uuid)\..*")]
autodoc_member_order = "bysource"
autodoc_typehints = "description"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _contents)
    app.connect("html-page-context", _sidebar)


def _contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """The lists of links in the index are the table of contents too, each under the heading above it."""
    if docname != root_doc:
        return
    chapters = re.split(r"^## (.+)\n", source[0], flags=re.MULTILINE)[1:]
    for heading, text in zip(chapters[::2], chapters[1::2], strict=True):
        pages = "\n".join(re.findall(r"^(?:\*|\d+\.) \[.*?\]\(([^)#]+)\)", text, flags=re.MULTILINE))
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{pages}\n```\n"


def _sidebar(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """The theme's sidebar leaves out what is hidden, which all of it is, since the index has it as lists."""
    toctree = context["toctree"]
    context["toctree"] = lambda **options: toctree(includehidden=True, **options)
