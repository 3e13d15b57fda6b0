"""The map of the tests: each module of the product has tests, and one look finds them.

The tests of a module are test_NAME.py in the tests of its package, and each test file that names it: by an import, or
by a line `Tests of dnstrail.image.order, dnstrail.image.shards.` in its docstring, where no import shows it. As a
program it prints them: `.venv/bin/python tests/test_map.py shared/dnstrail/image/order.py`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
LINE = re.compile(r"^Tests of ([^:]*?)\.$", re.MULTILINE | re.DOTALL)


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
        for name in _names(ast.parse(file.read_text())):
            found.setdefault(name, set()).add(file)
    return found


def _names(tree: ast.Module) -> Iterator[str]:
    yield from _in_line(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def _in_line(tree: ast.Module) -> list[str]:
    line = LINE.search(ast.get_docstring(tree) or "")
    return re.split(r",\s+", line[1]) if line else []


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
    lines = [name for file in TESTS.rglob("test_*.py") for name in _in_line(ast.parse(file.read_text()))]
    assert sorted({*lines} - {*modules()}) == []


if __name__ == "__main__":
    wanted = {Path(given).resolve() for given in sys.argv[1:]}
    for module in [name for name, file in modules().items() if file in wanted]:
        print(*sorted(str(file.relative_to(ROOT)) for file in found_in(module)), sep="\n")
