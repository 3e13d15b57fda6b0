"""Tests of dnstrail.events.message_line."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import dns.message
import pytest
from rich.cells import cell_len
from rich.console import Console

from builders.costly import COSTLY, calls_in
from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import (
    DST_DNS,
    NET_PACKET_DNS,
    NET_SERVER_NAME,
    NET_TCP_CLOSE,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CLOSE,
    NET_UDP_CONNECT,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
    SCHED_PROCESS_FORK,
    Event,
)
from dnstrail_cli.events.table import EventTable
from dnstrail_cli.events.words import Words, event_words, finding_words
from live.terminal import on_terminal
from live.workers import response

DEMO = str(Path(__file__).parents[3] / "services/probe/dnstrail_probe/sources/demo.pcap")
NOON = 1_793_534_400_123_456_789  # 2026-11-01 12:00:00.123 UTC
CURL = Process(1234, "curl", "/usr/bin/curl")
TODAY = datetime.fromisoformat("2026-11-01T15:00:00+00:00")
TWO = response("news.example", "news.example 60 A 192.0.2.10", "news.example 60 A 192.0.2.11")
QUERY = dns.message.make_query("news.example", "AAAA").to_wire()
TCP = {"dst": "192.0.2.10", "dst_port": 443}
pytestmark = pytest.mark.usefixtures("utc")


def event(name: str, payload: bytes = b"", process: Process | None = CURL, **args: object) -> Event:
    shown = {DST_DNS: args.pop("names")} if "names" in args else {}
    return Event(name, Captured(NOON, payload, None, process, args), args=shown)


WORDS = {
    "a query": (event(NET_PACKET_DNS, QUERY), "AAAA news.example ?"),
    "an answer": (event(NET_PACKET_DNS, TWO), "A news.example -> 192.0.2.10, 192.0.2.11"),
    "an alias": (
        event(NET_PACKET_DNS, response("a.example", "a.example 60 CNAME b.example.", "b.example 60 A 192.0.2.1")),
        "A a.example -> b.example, 192.0.2.1",
    ),
    "a mail server": (
        event(NET_PACKET_DNS, response("a.example", "a.example 60 MX 10 mx.example.", rdtype="MX")),
        "MX a.example -> 10 mx.example",
    ),
    "no such name": (
        event(NET_PACKET_DNS, response("x.example", rcode="NXDOMAIN")),
        "A x.example -> no such name (NXDOMAIN)",
    ),
    "a server that failed": (
        event(NET_PACKET_DNS, response("x.example", rcode="SERVFAIL")),
        "A x.example -> the server failed (SERVFAIL)",
    ),
    "a rare code": (event(NET_PACKET_DNS, response("x.example", rcode="NOTAUTH")), "A x.example -> NOTAUTH"),
    "no data": (event(NET_PACKET_DNS, response("x.example", rdtype="AAAA")), "AAAA x.example -> no data"),
    "no DNS": (event(NET_PACKET_DNS, b"garbage"), "a DNS message that cannot be read (7 bytes)"),
    "a connection": (event(NET_TCP_CONNECT, **TCP, names=["news.example"]), "-> 192.0.2.10:443 news.example"),
    "a connection without a name": (event(NET_TCP_CONNECT, **TCP, names=[]), "-> 192.0.2.10:443"),
    "a connection over IPv6": (event(NET_TCP_CONNECT, dst="2001:db8::1", dst_port=443), "-> [2001:db8::1]:443"),
    "a UDP destination": (event(NET_UDP_CONNECT, **TCP, names=["a", "b"]), "-> 192.0.2.10:443/udp a, b"),
    "a connection that was made": (
        event(NET_TCP_CONNECT_RESULT, **TCP, connected=True, error=""),
        "-> 192.0.2.10:443 connected",
    ),
    "a connection that failed": (
        event(NET_TCP_CONNECT_RESULT, **TCP, connected=False, error="ECONNREFUSED"),
        "-> 192.0.2.10:443 failed (ECONNREFUSED)",
    ),
    "a UDP connection that was closed": (event(NET_UDP_CLOSE, **TCP), "-> 192.0.2.10:443/udp closed"),
    "a connection that was closed": (event(NET_TCP_CLOSE, **TCP), "-> 192.0.2.10:443 closed"),
    "a connection that was closed with its bytes": (
        event(NET_TCP_CLOSE, **TCP, bytes_sent=12_345, bytes_received=1),
        "-> 192.0.2.10:443 closed (12.3 kB sent, 1 byte received)",
    ),
    "a connection given up": (
        event(NET_TCP_CONNECT_RESULT, **TCP, connected=False, error=""),
        "-> 192.0.2.10:443 given up",
    ),
    "a server name": (
        event(NET_SERVER_NAME, **TCP, server_name="www.example", evidence="sni"),
        "-> 192.0.2.10:443 called www.example (sni)",
    ),
    "an exec": (event(SCHED_PROCESS_EXEC), "exec /usr/bin/curl"),
    "an exit": (event(SCHED_PROCESS_EXIT, exit_code=0, signal_code=0), "exit"),
    "an exit with a code": (event(SCHED_PROCESS_EXIT, exit_code=3, signal_code=0), "exit with code 3"),
    "an exit by a signal": (event(SCHED_PROCESS_EXIT, exit_code=0, signal_code=9), "exit by signal 9"),
    "a fork": (event(SCHED_PROCESS_FORK, child_pid=77), "fork 77"),
    "another event": (event("other", a=1, b=["x", "y"]), "other a=1, b=x y"),
}


@pytest.mark.parametrize("name", WORDS)
def test_event_in_words(name):
    """Each kind of event has words of its own, with the names of the field."""
    shown, expected = WORDS[name]
    assert event_words(shown).fitted(None).rstrip() == expected


def test_finding_in_words():
    """A finding is shown by its name and its data, without the event that led to it."""
    finding = {
        "eventName": "WATCHED_NAME",
        "args": [
            {"name": "watched_name", "value": "c2.example"},
            {"name": "ip_addresses", "value": ["192.0.2.1", "192.0.2.2"]},
            {"name": "proto_dns", "value": {"questions": [{"name": "a.example", "type": "A"}]}},
            {"name": "triggeredBy", "value": {"name": "net_packet_dns"}},
        ],
    }
    expected = "WATCHED_NAME watched_name=c2.example, ip_addresses=192.0.2.1 192.0.2.2, proto_dns=a.example/A"
    assert finding_words(finding).fitted(None) == expected


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (None, "A a -> 192.0.2.1, 192.0.2.2, 192.0.2.3"),
        (38, "A a -> 192.0.2.1, 192.0.2.2, 192.0.2.3"),
        (37, "A a -> 192.0.2.1, 192.0.2.2, +1 more"),
        (35, "A a -> 192.0.2.1, +2 more"),
        (25, "A a -> 192.0.2.1, +2 more"),
        (20, "A a -> 192.0.2.1, +\u2026"),
        (15, "A a -> 192.0.2.1\u2026"),
        (5, "A a -> 192.0.2.1\u2026"),
        (0, "A a -> 192.0.2.1\u2026"),
    ],
)
def test_answers_are_shortened(room, expected):
    """Where answers have no room, the number of those left out is shown, and the line ends behind the first address."""
    words = Words("A a -> ", ("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    assert words.fitted(room) == expected


LONG6, LONG_NAME = "2001:db8:1111:2222:3333:4444:5555:6666", ".".join(["name"] * 14)
WITH_ADDRESSES = {
    "a long name": (Words(f"AAAA {LONG_NAME} -> ", (LONG6, LONG6)), LONG6),
    "an endpoint": (Words(f"-> [{LONG6}]:443/udp ", (LONG_NAME,)), f"[{LONG6}]:443"),
    "an endpoint of IPv4": (Words("-> 192.0.2.123:443 ", (LONG_NAME, LONG_NAME)), "-> 192.0.2.123:443"),
    "a finding": (Words("FOREIGN ", (f"name={LONG_NAME}", f"server={LONG6}", "x=1")), f"server={LONG6}"),
    "two addresses": (Words("-> 192.0.2.1:53 ", ("n" * 30, "198.51.100.222")), "-> 192.0.2.1:53"),
}


@pytest.mark.parametrize("name", WITH_ADDRESSES)
def test_no_address_is_cut(name):
    """Whatever the room is, the first address is whole, and no other one is shown in part."""
    words, address = WITH_ADDRESSES[name]
    for room in range(160):
        shown = words.fitted(room)
        assert address in shown
        parts = re.findall(r"(?:192|198|2001)[0-9a-f.:]+", shown)
        assert {*parts} <= {LONG6, "192.0.2.123:443", "192.0.2.1:53", "198.51.100.222"}


def lines(*items: Event | dict, width: int = 80, terminal: bool = True) -> list[str]:
    """Return the lines of a table on a terminal of this width."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, no_color=True, markup=False, highlight=False)
    console.record = True
    table = EventTable(console, TODAY)
    for item in items:
        table.print(item)
    return (console.export_text() if terminal else out.getvalue()).splitlines()


def test_header_and_columns():
    """The table has a header, the local time to the millisecond, process(pid), and the event in words."""
    assert lines(event(NET_PACKET_DNS, TWO), event(SCHED_PROCESS_EXIT)) == [
        "TIME (UTC)    PROCESS           EVENT",
        "12:00:00.123  curl(1234)        A news.example -> 192.0.2.10, 192.0.2.11",
        "12:00:00.123  curl(1234)        exit",
    ]


def test_the_table_shows_wall_time():
    """The difference to wall time is added to the time of an event."""
    *_, line = lines(Event(SCHED_PROCESS_EXIT, Captured(NOON, process=CURL), difference=3600 * 10**9))
    assert line.startswith("13:00:00.123 ")


def test_a_day_has_a_line():
    """Events of another day come below its date, and so do those of each day that follows."""
    yesterday = Event(SCHED_PROCESS_EXIT, Captured(NOON - 86_400 * 10**9, process=CURL))
    texts = lines(yesterday, yesterday, event(SCHED_PROCESS_EXIT))
    assert [text for text in texts if text.startswith("2026")] == ["2026-10-31", "2026-11-01"]
    assert texts[1] == "2026-10-31"


def test_a_change_of_the_clocks_has_a_line(monkeypatch):
    """The times after a change of the clocks stand below their zone: two hours of one name are told apart."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    summer = int(datetime.fromisoformat("2026-10-25T02:30:00+02:00").timestamp()) * 10**9
    both = [Event(SCHED_PROCESS_EXIT, Captured(at, process=CURL)) for at in (summer, summer + 3600 * 10**9)]
    header, *shown = [text.split("  ")[0] for text in lines(*both, both[1])]
    assert header == "TIME (CEST)"
    assert shown == ["2026-10-25", "02:30:00.000", "2026-10-25 (CET)", "02:30:00.000", "02:30:00.000"]


@pytest.mark.parametrize("width", [40, 50, 80, 100, 200])
def test_lines_fit_the_terminal(width):
    """No line is wider than the terminal, whatever names, processes and answers it holds."""
    many = response("long.example", *(f"long.example 60 A 192.0.2.{n}" for n in range(1, 60)))
    wide = Process(4_194_304, "\u6f22\u5b57\u6f22\u5b57\u6f22")
    deep = dns.message.make_query(".".join(["x" * 60] * 4), "A").to_wire()
    shown = lines(
        *(event(NET_PACKET_DNS, many), event(NET_PACKET_DNS, deep, wide), event(SCHED_PROCESS_EXEC, process=wide)),
        width=width,
    )
    assert all(cell_len(line) <= width for line in shown)
    assert len(shown) == (5 if width <= 50 else 4), "the address has a line of its own"
    if width >= 80:
        assert " more" in shown[1]
        assert "(4194304)" in shown[2]


def test_a_file_has_whole_lines():
    """Where stdout is no terminal, lines are not shortened and hold no escape sequences."""
    many = response("long.example", *(f"long.example 60 A 192.0.2.{n}" for n in range(1, 60)))
    *_, line = lines(event(NET_PACKET_DNS, many), terminal=False)
    assert line.endswith("192.0.2.59")
    assert "\x1b" not in line


def test_without_a_process_the_client_is_shown():
    """Where no process is known, its column has the address of the client."""
    flow = Flow(bytes([192, 0, 2, 53]), 53, bytes([192, 0, 2, 7]), 4000)
    *_, line = lines(Event(NET_PACKET_DNS, Captured(NOON, TWO, flow)))
    assert line.startswith("12:00:00.123  192.0.2.7 ")


TRIGGERS = {
    "an answer": ({"args": [("src", "192.0.2.53"), ("dst", "192.0.2.7"), ("proto_dns", {"QR": 1})]}, "192.0.2.7"),
    "a long address": ({"args": [("src", LONG6)]}, LONG6),
    "a query": ({"args": [("src", "192.0.2.7"), ("dst", "192.0.2.53"), ("proto_dns", {"QR": 0})]}, "192.0.2.7"),
    "a connection": ({"args": [("dst", "192.0.2.10")]}, "-"),
    "a map without arguments": ({"args": "x"}, "-"),
    "no event": (None, "-"),
}


@pytest.mark.parametrize("name", TRIGGERS)
def test_without_a_process_a_finding_shows_the_client(name):
    """Where no process is known, a finding shows the client of the DNS message that triggered it."""
    trigger, shown = TRIGGERS[name]
    if isinstance((trigger or {}).get("args"), list):
        trigger = {"args": [{"name": key, "value": value} for key, value in trigger["args"]]}
    args = [{"name": "root", "value": "a.example"}, {"name": "triggeredBy", "value": trigger}]
    finding = {"timestamp": NOON, "processName": "", "processId": 0, "eventName": "RELAY", "args": args}
    *_, line = lines(finding)
    assert line == f"12:00:00.123  {shown:<16}  RELAY root=a.example"


def test_an_address_without_room_has_a_line_of_its_own():
    """At 80 columns a client and an answer with long addresses take two lines, both addresses whole."""
    flow = Flow(bytes(4), 53, bytes.fromhex(LONG6.replace(":", "").replace("db8", "0db8")), 4000)
    long = response("www.a.example", f"www.a.example 60 AAAA {LONG6}", rdtype="AAAA")
    _, *shown = lines(Event(NET_PACKET_DNS, Captured(NOON, long, flow)))
    assert shown == [f"12:00:00.123  {LONG6}", f"  AAAA www.a.example -> {LONG6}"]


def test_text_of_strangers_is_escaped():
    """Control bytes in names, process names and paths reach the terminal escaped, never as markup."""
    evil = Process(66, "\x1b[31mevil", "/bin/\x07[bold]x\u202e")
    name = response("\\027[31mred.example", "\\027[31mred.example 60 CNAME \\007.example.")
    shown = lines(
        event(NET_PACKET_DNS, name, evil),
        event(SCHED_PROCESS_EXEC, process=evil),
        event(NET_TCP_CONNECT, process=evil, dst="\x1b]0;x", dst_port=1, names=["\x9bname"]),
        event(NET_SERVER_NAME, process=evil, server_name="\x1b[2J", evidence="sni", **TCP),
        {"timestamp": NOON, "processName": "\x1b[0m", "processId": 1, "eventName": "X\x1b",
         "args": [{"name": "a\n", "value": "\x1b[1m"}, {"name": "b", "value": {"\x1b": 1}}]},
        width=200,
    )  # fmt: skip
    assert len(shown) == 6
    assert all(line.isprintable() for line in shown)
    assert "[bold]" in shown[2]


def on_a_terminal(*arguments: str, width: int = 100, **env: str) -> str:
    """Run dnstrail with stdout on a terminal of this width, and return what it writes there."""
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    code, shown = on_terminal(
        [sys.executable, "-m", "dnstrail_cli", *arguments],
        stream="stdout",
        width=width,
        stderr=subprocess.DEVNULL,
        env={**clean, "TERM": "xterm-256color", **env},
    )
    assert code == 0
    return shown.decode()


def test_a_terminal_gets_a_table_in_colour():
    """On a terminal the table is the default, has colour, and fits the width."""
    text = on_a_terminal("replay", DEMO, width=80)
    assert "\x1b[" in text
    assert "PROCESS" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert len([line for line in plain if line[2:3] == ":"]) == 19
    assert all(len(line) <= 80 for line in plain)


def test_no_color_is_honoured():
    """With NO_COLOR the table has no colour."""
    assert "\x1b[3" not in on_a_terminal("replay", DEMO, NO_COLOR="1")


@pytest.mark.parametrize("payload", COSTLY.values(), ids=COSTLY)
def test_no_message_costs_more_than_the_bound(payload):
    """The words of one message are bounded, whatever its names and records are."""
    event_words(event(NET_PACKET_DNS, TWO))  # the types are loaded
    shown = event(NET_PACKET_DNS, payload)
    assert calls_in(lambda: event_words(shown)) < 1_000_000
    assert sum(map(len, event_words(shown).items)) < 300_000


def test_a_table_imports_all_that_it_needs():
    """A run shows wide characters although its user may not read the modules: rich would import their widths then."""
    code = (
        "import sys, dnstrail_cli.events.table as table; known = {*sys.modules}; table.cell_len(chr(0x65E5)); "
        "print({*sys.modules} - known)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
