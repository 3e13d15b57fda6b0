"""Values that an option refuses before the command does anything."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dnstrail_cli.__main__ import main_command
from live.processes import PATIENCE
from live.terminal import on_terminal

ANY_HOST = ["cache --serve", "cache --subscribe", "cache --findings", "probe --publish", "signatures --cache"]
ANY_HOST += ["signatures --findings", "signatures --subscribe", "get a --cache", "trail a --cache", "stats --cache"]
ANY_HOST += ["health --cache", "dump --cache", "connections --cache"]
THIS_HOST = ["findings --receive", "findings --cache"]
REFUSED = [
    *((f"{option} {value}", "no bus address: write ") for option in ANY_HOST for value in ("foo", "''", "ipc://")),
    *((f"{option} tcp://127.0.0.1:x", "no bus address: write tcp://ADDRESS:PORT") for option in ANY_HOST),
    *((f"{option} ipc://{'x' * 108}", "longer than the 107 bytes") for option in (*ANY_HOST, *THIS_HOST)),
    *(
        (f"{option} {value}", f"'{value}': no socket of this host: write ipc:///path")
        for option in THIS_HOST
        for value in ("foo", "ipc://", "tcp://127.0.0.1:1")
    ),
    ("cache --user 99999999999:1", "'99999999999:1' is not UID:GID"),
    ("cache --user 1:4294967295", "'1:4294967295' is not UID:GID"),
    ("cache --user ²:²", "'²:²' is not UID:GID"),
    ("cache --state ''", "'' is no path of a file"),
    ("load --state '' image", "'' is no path of a file"),
    ("probe --capture ''", "'' is neither a source nor a file"),
    ("get a --capture ''", "'' is neither a source nor a file"),
    ("replay ''", "'' is neither a source nor a file"),
    ("probe --subscribers -1", "-1 is not in the range x>=0"),
    ("replay demo --memory 99999999999999999", "is not in the range 256<=x<=16777216"),
    ("signatures --budget nan", "nan is no number"),
    ("history --days nan", "nan is no number"),
    ("probe --speed nan", "nan is no number"),
    ("replay demo --speed nan", "nan is no number"),
    ("enrich --wait nan", "nan is no number"),
    ("top --seconds nan", "nan is no number"),
    ("signatures --group ''", "'' has not 1 to 119 printable characters"),
    (f"signatures --group {'x' * 120}", "has not 1 to 119 printable characters"),
    ("signatures --group \udcff", r"'\udcff' has not 1 to 119 printable characters"),
]


@pytest.mark.parametrize(("line", "text"), REFUSED, ids=[line[:60].encode("unicode_escape") for line, _ in REFUSED])
def test_a_wrong_value_is_refused_where_it_is_read(line: str, text: str) -> None:
    """The error of the option states the value and what is wrong with it, and is one of wrong usage."""
    name, *words = shlex.split(line)
    command = main_command.get_command(click.Context(main_command), name)
    assert command is not None
    with pytest.raises(click.BadParameter) as caught:
        command.make_context(name, [*words])
    assert text in caught.value.format_message()
    assert caught.value.param is not None
    assert {*caught.value.param.opts} & {*words, "file"}


def test_a_refusal_is_plain_text_on_a_terminal() -> None:
    """Control bytes of a wrong argument are escaped; click removes them from what is no terminal alone."""
    command = [sys.executable, "-m", "dnstrail_cli", "trail", "x", "\x1b[31mX"]
    code, shown = on_terminal(command, env={**os.environ, "NO_COLOR": "1"})
    assert (code, b"\x1b" in shown) == (2, False), shown
    assert b"\\x1b[31mX" in shown


def test_a_refusal_has_its_code_where_stderr_is_full() -> None:
    """Where stderr is full, wrong usage still exits with 2."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "dnstrail_cli", "get", "--bad"]
        assert subprocess.run(command, stderr=full, timeout=PATIENCE, check=False).returncode == 2
