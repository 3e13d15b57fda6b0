"""`dnstrail stats` and `health` on a terminal of 80 columns.

Tests of dnstrail_cli.lookups.tables.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import msgpack
import pytest

from dnstrail.bus.ipc import lookups_address
from live.terminal import on_terminal
from live.workers import answering, short_folder

WIDTH = 80
KEYED = "0123456789abcdef.fedcba9876543210"  # the start of a probe of another host
CGROUP = f"/system.slice/docker-{'0123456789abcdef' * 4}.scope/{'nested' * 10}"
REASON = f"cannot read /etc/dnstrail/{'long-name-' * 10}.txt: [Errno 2] No such file or directory"
NOW = 1_793_534_405.5
REPLIES = {
    "stats": {
        "image": {"roots": 123456},
        "lost_by_cgroup": {CGROUP: 12345678901234567},
        "probes": {KEYED: {"live": True, "getaddrinfo_suppressed": 1 << 53}},
    },
    "health": {
        "status": "ok", "fed": True, "probes": 1, "turns": {KEYED: 1 << 53}, "ended": False,
        "signatures": {"DNS_FOREIGN_RESOLVER": REASON}, "now": NOW,
    },
}  # fmt: skip


def printed(*arguments: str) -> list[str]:
    """Return the lines that dnstrail writes to a terminal of 80 columns."""
    clean = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    _, shown = on_terminal(
        [sys.executable, "-m", "dnstrail_cli", *arguments],
        stream="stdout",
        width=WIDTH,
        stderr=subprocess.DEVNULL,
        env={**clean, "TERM": "xterm", "TZ": "UTC"},
    )
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).splitlines()


def columns(lines: list[str]) -> str:
    """Return both columns of a table, each without its folds: names first, then values."""
    at = lines[1].index("value")
    return " ".join("".join(line[part].strip() for line in lines[2:]) for part in (slice(at), slice(at, None)))


@pytest.mark.parametrize("command", REPLIES)
def test_nothing_is_cut_at_80_columns(command):
    """Each line fits the terminal, and names and values of any length are folded, never cut."""
    reply = msgpack.packb({"v": 1, "ok": True, "data": REPLIES[command], "complete": True})
    with short_folder() as folder, answering(lookups_address(folder), lambda _: reply):
        lines = printed(command, "--run-dir", str(folder))
    assert max(map(len, lines)) <= WIDTH
    shown = columns(lines)
    assert "\u2026" not in shown
    if command == "stats":
        assert f"lost_by_cgroup.{CGROUP}" in shown
        assert "12345678901234567" in shown
        assert f"probes.{KEYED}.getaddrinfo_suppressed" in shown
    else:
        assert f"turns.{KEYED}" in shown
        assert REASON.replace(" ", "") in shown.replace(" ", "")
        assert "2026-11-01 12:00:05+00:00" in shown.replace("  ", " ")
