"""The files of the page: few bytes, nothing from elsewhere, and no code that the CSP would refuse."""

from __future__ import annotations

import re
from pathlib import Path

STATIC = Path(__file__).parents[3] / "services/web/dnstrail_web/static"
MOST = 600_000  # bytes of all files


def test_the_page_is_small_and_complete():
    """All files together have at most 600 kB, and none refers to another host."""
    files = [path for path in STATIC.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST
    for path in files:
        if path.suffix in {".js", ".css", ".html"}:
            found = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", path.read_text())
            assert [one for one in found if not one.startswith("http://www.w3.org")] == [], path


def test_no_text_is_inserted_as_markup():
    """No own module uses innerHTML or its like, or runs text as code."""
    for path in (STATIC / "js").rglob("*.js"):
        assert (
            re.findall(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", path.read_text()
            )
            == []
        )


def test_vendored_modules_have_licences():
    """Each vendored module is named with its package, version and licence."""
    text = (STATIC / "vendor/README.txt").read_text()
    for path in (STATIC / "vendor").glob("*.js"):
        assert path.name in text
    assert len(list((STATIC / "vendor").glob("LICENSE.*"))) == 2
