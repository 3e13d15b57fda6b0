"""The pages that people write have the figures of the code, and trust.md the tests of each attack."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from live.stated_names import unstated_forms
from live.unlisted_questions import unlisted_forms

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(page for part in ("start", "use", "inside") for page in (DOCS / part).glob("*.md"))
FIGURE = re.compile(r"<!-- (?P<value>(?P<number>[\d.,]+)(?: (?P<unit>\w+))?) = (?P<path>[\w.]+)(?P<ns> ns)? -->")
FORMS = unlisted_forms({4: ("192.0.2.53", 53), 6: ("2001:db8::53", 53)})
FACTORS = {None: 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "ms": 1e-3, "s": 1, "seconds": 1}


def constant(path: str) -> Any:
    """Return the constant of a module, or the default of a field of a class in it."""
    module, _, name = path.rpartition(".")
    if module.rpartition(".")[2][0].isupper():
        module, _, owner = module.rpartition(".")
        return getattr(getattr(importlib.import_module(module), owner)(), name)
    return getattr(importlib.import_module(module), name)


FIGURES = [
    pytest.param(page, found, id=f"{page.stem}:{found['path']}")
    for page in PAGES
    for found in FIGURE.finditer(page.read_text())
]


@pytest.mark.parametrize(("page", "figure"), FIGURES)
def test_a_figure_is_that_of_the_code(page, figure):
    """A figure with a constant behind it stands in the sentence before, and is the value of that constant."""
    before = page.read_text()[: figure.start()].rpartition("\n\n")[2]
    assert figure["value"] in before.replace("\n", " ")
    stated = float(figure["number"].replace(",", "")) * FACTORS[figure["unit"]]
    assert constant(figure["path"]) == stated * (10**9 if figure["ns"] else 1)


def test_every_comment_with_a_figure_is_read():
    """Every comment that compares is one that the tests read."""
    written = sum(len(re.findall(r"<!--[^>]* = ", page.read_text())) for page in PAGES)
    assert written == len(FIGURES) > 0


def test_every_attack_has_its_tests():
    """Every attack of trust.md names a file with tests, or the program that repeats it."""
    table = (DOCS / "inside/trust.md").read_text().partition("## Attacks")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    attacks = [row for row in rows if row[0].strip() != "attack"]
    assert attacks
    for _, _, named in attacks:
        for span in re.findall(r"`([^`]+)`", named) or [named]:
            assert span.startswith("make ") or "def test_" in (DOCS.parent / span).read_text(), span


def test_every_form_of_a_question_is_an_escape():
    """escapes.md names each form of a question that the tests send, and no other."""
    table = (DOCS / "inside/escapes.md").read_text().partition("## Questions")[2].partition("\n## ")[0]
    named = {span for span in re.findall(r"`([^`]+)`", table) if span.split()[0] in ("message", "way", "stream")}
    assert named == {re.sub(r" IPv[46]$", "", form) if form.startswith("stream") else form for form in FORMS}


def test_every_form_of_a_stated_name_is_an_escape():
    """escapes.md names each form of first bytes that the tests send, and no other."""
    table = (DOCS / "inside/escapes.md").read_text().partition("## Names that")[2].partition("\n## ")[0]
    named = re.findall(r"`((?:hello|request|bytes|way) [^`]+)`", table)
    assert sorted(named) == sorted(unstated_forms())
