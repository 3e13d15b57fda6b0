"""A list that a further run extends."""

from __future__ import annotations

import pytest

from dnstrail_run.allow_list import parse_allow_list
from dnstrail_run.merged_list import merged
from dnstrail_run.report import AskedName, Coverage, Program, ReachedAddress, RunReport

TOOL = Program(7, "tool", "")
TODAY = "2026-11-29"


def after(text: str, *found: str, names: tuple[str, ...] = (), addresses: tuple[str, ...] = ()) -> list[str]:
    """Return a list after a run that asked names and reached addresses."""
    report = RunReport(
        command=[],
        exit_code=0,
        names=[AskedName(name, "answered", 1, TOOL) for name in names],
        connections=[ReachedAddress("", address, 443, "tcp", TOOL, {"connected": 1}) for address in addresses],
        unnamed=[],
        encrypted=[],
        foreign_dns=[],
        coverage=Coverage(True, [], ""),
    )
    return [*merged(text, parse_allow_list(text), found, report, TODAY)]


def test_a_new_list_is_what_was_found():
    """Without an earlier list, the lines are those of the run."""
    assert after("", "# Made by dnstrail", "a.test:443") == ["# Made by dnstrail", "a.test:443"]


def test_lines_stay_and_get_a_mark():
    """Lines keep their order and comments; an entry that was not used is marked once, until it is used again."""
    text = (
        "# mine\n\na.test:443  # why\nb.test\n*.c.test\n10.0.0.0/8:22\n192.0.2.1\n@npm\nresolver 192.0.2.53\n/run/x\n"
    )
    first = after(text, "# Made by dnstrail", "d.test:80", names=("a.test", "x.c.test"), addresses=("10.1.2.3",))
    mark = f"  # not used since {TODAY}"
    assert first == [
        "# mine", "", "a.test:443  # why", f"b.test{mark}", "*.c.test", "10.0.0.0/8:22", f"192.0.2.1{mark}", "@npm",
        "resolver 192.0.2.53", "/run/x", "d.test:80",
    ]  # fmt: skip
    again = after("\n".join(first).replace(TODAY, "2026-01-01") + "\n", names=("b.test",))
    assert again[3] == "b.test"
    assert again[6] == "192.0.2.1  # not used since 2026-01-01", "the first day stays"
    assert again[4] == f"*.c.test{mark}"
    assert parse_allow_list("\n".join(again)) == parse_allow_list(f"{text}d.test:80\n")


@pytest.mark.parametrize(
    ("entry", "line", "is_new"),
    [
        ("a.test:443", "a.test", False),
        ("a.test", "a.test SRV", True),
        ("a.test SRV\n*.test NAPTR", "a.test NAPTR SRV", False),
        ("a.test resolver 192.0.2.53", "a.test", True),
        ("a.test resolver 192.0.2.53", "a.test resolver 192.0.2.53", False),
        ("a.test:443", "a.test:443", False),
        ("a.test:443", "a.test:22,443", True),
        ("a.test:22\na.test:443", "a.test:22,443", False),
        ("a.test", "a.test:22,443", False),
        ("*.test:443", "a.test:443", False),
        ("*.a.test", "*.a.test:443", False),
        ("a.test", "*.a.test", True),
        ("@pypi", "pypi.org:443", False),
        ("10.0.0.0/8", "10.1.2.3:80", False),
        ("10.0.0.0/8:22", "10.1.2.3:80", True),
        ("[fd00::]/16", "[fd00::1]:80", False),
        ("10.0.0.0/8", "[fd00::1]:80", True),
        ("resolver 192.0.2.1", "resolver 192.0.2.1", False),
        ("a.test", "resolver 192.0.2.1", True),
    ],
)
def test_what_a_list_has_is_not_added(entry, line, is_new):
    """A line is added unless the entries of the list allow all of it."""
    assert (line in after(f"# mine\n{entry}\n", line)[1 + entry.count("\n") + 1 :]) is is_new
