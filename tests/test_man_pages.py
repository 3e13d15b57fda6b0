"""The manual pages of the Debian package."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import click
import pytest

from dnstrail_cli.__main__ import main_command

_SCRIPT = Path(__file__).parents[1] / "deploy/make_man_pages.py"
_SPEC = importlib.util.spec_from_file_location("make_man_pages", _SCRIPT)
maker = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(maker)
PAGES = dict(maker.pages())
COMMANDS = main_command.list_commands(click.Context(main_command))


def test_each_command_has_a_page():
    """The program has a page, each of its commands, and each command below one."""
    fleet = ("get", "hosts", "invite", "join", "new", "revoke", "send", "signatures", "store", "top", "trail")
    below = [
        *(f"dnstrail-fleet-{name}" for name in fleet),
        "dnstrail-history-forget",
        "dnstrail-history-load",
        "dnstrail-keys-allow",
        "dnstrail-keys-list",
        "dnstrail-keys-new",
    ]
    assert sorted(PAGES) == ["dnstrail", *sorted([*(f"dnstrail-{name}" for name in COMMANDS), *below])]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_every_option(name):
    """The page of a command names each of its options, and no line of it is a request to roff by accident."""
    command = main_command.get_command(click.Context(main_command), name)
    page = PAGES[f"dnstrail-{name}"]
    plain = page.replace("\\-", "-")
    assert f"Usage: dnstrail {name}" in plain
    shown = [option for option in command.params if not getattr(option, "hidden", False)]
    assert [word for option in shown for word in option.opts if word.startswith("--") and word not in plain] == []
    assert {line.split()[0] for line in page.splitlines() if re.match(r"[.']", line)} == {".TH", ".SH", ".nf", ".fi"}
