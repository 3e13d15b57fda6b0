"""The map of the tests: each module of the product has tests, and one look finds them.

The tests of a module are test_NAME.py in the tests of its package, and each test file that names it: by an import, or
by a line `Tests of dnstrail.image.order, dnstrail.dns.tables.` in its docstring, where no import shows it. As a
program it prints them: `.venv/bin/python tests/test_map.py shared/dnstrail/image/order.py`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
LINE = re.compile(r'^(?:""")?Tests of ([^:]*?)\.(?:""")?$', re.MULTILINE)
IMPORT = re.compile(r"^\s*from (\S+) import (\([^)]*\)|.+)$", re.MULTILINE)


@cache
def modules() -> dict[str, Path]:
    """Return the modules of the product by their names."""
    packages = [ROOT / "shared/dnstrail", *(ROOT / "services").glob("*/dnstrail_*")]
    files = [(file.relative_to(one.parent), file) for one in packages for file in one.rglob("*.py")]
    named = {".".join(path.with_suffix("").parts): file for path, file in files}
    return {name: file for name, file in named.items() if not name.endswith("__")}


@cache
def named_by_tests() -> dict[str, set[Path]]:
    """Return the test files that name something, by what they name."""
    found: dict[str, set[Path]] = {}
    for file in TESTS.rglob("test_*.py"):
        text = file.read_text()
        for name in (*in_line(text), *_imported(text)):
            found.setdefault(name, set()).add(file)
    return found


def in_line(text: str) -> list[str]:
    """Return the modules that the line `Tests of ...` of a test file names."""
    line = LINE.search(text)
    return re.split(r",\s+", line[1]) if line else []


def _imported(text: str) -> Iterator[str]:
    for source, names in IMPORT.findall(text):
        yield source
        yield from (f"{source}.{name}" for name in re.findall(r"\w+", names))


def found_in(module: str) -> set[Path]:
    """Return the test files of a module."""
    package, name = module.partition(".")[0], module.rpartition(".")[2]
    folder = TESTS / package.removeprefix("dnstrail_").replace("dnstrail", "shared")
    return {*folder.rglob(f"test_{name}.py"), *named_by_tests().get(module, ())}


def test_every_module_has_tests():
    """Each module of the product has a test file by its name, or one that names it."""
    assert [module for module in modules() if not found_in(module)] == []


def test_every_line_names_modules():
    """Each name in a line `Tests of ...` is a module of the product."""
    lines = [name for file in TESTS.rglob("test_*.py") if file != Path(__file__) for name in in_line(file.read_text())]
    assert lines
    assert sorted({*lines} - {*modules()}) == []


if __name__ == "__main__":
    wanted = {Path(given).resolve() for given in sys.argv[1:]}
    tests = {test for name, file in modules().items() if file in wanted for test in found_in(name)}
    sys.stdout.writelines(f"{test.relative_to(ROOT)}\n" for test in sorted(tests))
