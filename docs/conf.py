"""The site of the docs: the pages as the forge shows them. Each heading of index.md is a part, and names its folder."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

from dnstrail import __version__

project = "dnstrail"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # the API page has a part of the names alone; links between pages are checked
myst_heading_anchors = 4
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
html_theme = "furo"
html_title = f"dnstrail {release}"
html_theme_options = {"navigation_with_keys": True}
html_show_sphinx = False
html_show_copyright = False
smartquotes = False  # `--` stays an option
default_role = "code"  # a word between backticks in a docstring
_DOCS = Path(__file__).parent
_PART = """
```{{toctree}}
:caption: {title}
:hidden:

{pages}
```
"""


def add_parts(_app: Sphinx, name: str, content: list[str]) -> None:
    """Append the navigation to the first page: the links of each part, then the other pages of its folder."""
    if name == "index":
        content[0] += "".join(map(_part, content[0].split("\n## ")[1:]))


def _part(section: str) -> str:
    title = section.partition("\n")[0]
    linked = re.findall(r"\]\(([\w/-]+)\.md\)", section)
    others = sorted(f"{page.parent.name}/{page.stem}" for page in _DOCS.glob(f"{title.lower()}/*.md"))
    return _PART.format(title=title, pages="\n".join(dict.fromkeys([*linked, *others])))


def setup(app: Sphinx) -> None:
    """Connect the navigation."""
    app.connect("source-read", add_parts)
