from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from builders.trail_helpers import packed, to_client
from dnstrail.bus.ipc import lookups_address
from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import NET_SERVER_NAME, NET_TCP_CONNECT
from live.processes import dnstrail
from live.workers import answering, asker, cache, probe, response, short_folder, wait_until_seen

DEMO = Path(__file__).parents[3] / "services/probe/dnstrail_probe/sources/demo.pcap"
BEGIN = 1_793_534_400
ANSWER = response("www.a", "www.a 60 CNAME a.", "a 30 A 192.0.2.1")
APP = Process(70, "app", "/bin/app", container_id="0123456789abcdef")
EVIL = Process(66, "\x1b[31mevil\x07\u202e", "/bin/\x1b]0;x\x07", container_id="c\x1b[2J")


def event(after: float, payload: bytes = b"", flow: Flow | None = None, process: Process | None = None, **args):
    return Captured(round((1000 + after) * 1e9), payload, flow, process, args)


def trail(*arguments: object, code: int = 0) -> str:
    """Return what `dnstrail trail` writes to stdout."""
    done = dnstrail("trail", *map(str, arguments))
    assert done.returncode == code, done.stderr
    return done.stdout


def roots(*arguments: object) -> list[str]:
    """Return the questions in the output of `dnstrail trail --json`, the likeliest first."""
    return [one["dns_root"] for one in json.loads(trail("--json", *arguments))["trails"]]


@pytest.fixture(scope="module")
def running_cache() -> Iterator[str]:
    """Yield the address of a cache with two questions for 192.0.2.1, and a connection by its first client."""
    to_site = Flow(packed("10.0.0.2"), 50000, packed("192.0.2.1"), 443, "tcp")
    other = response("b", "b 60 A 192.0.2.1")
    strange = response("\\027[31mred", "\\027[31mred 60 A 192.0.2.66")
    with short_folder() as folder, cache(folder) as address, probe(folder) as publishing, asker(address) as client:
        mark = publishing.turn(
            event(0, ANSWER, to_client(socket=7), APP, foreign=False),
            (NET_TCP_CONNECT, event(0.1, b"", to_site, APP, dst="192.0.2.1", dst_port=443)),
            event(5, other, to_client("10.0.0.3", socket=8), Process(71, "other"), foreign=True),
            event(6, strange, to_client(socket=9), EVIL),
            (NET_SERVER_NAME, event(7, b"", to_site, server_name="\x1b[31mname", evidence="sni")),
            event(10, b"no DNS"),
        )
        wait_until_seen(client, mark)
        yield address


def test_tree_of_a_file():
    """Trails over a file are drawn as trees, the likeliest first, without a server or a privilege."""
    lines = trail("--capture", DEMO, "192.0.2.10").splitlines()
    assert [line for line in lines if line[0] not in "│├└ "] == [
        "news.example  (likeliest, live)",
        "shop.example  (rival, live)",
        "192.0.2.10  (rival, live)",
    ]
    assert "├── asked by client 192.0.2.100, answered by 192.0.2.53, 1x" in lines
    assert "    └── A     192.0.2.10  (seen 4 s ago, 56 s left, 2x)" in lines


def test_json_of_a_file_and_of_a_cache_have_the_same_fields(running_cache):
    """--json writes one object with the documented fields, over a file and from a cache alike."""
    fields = {"key", "scope", "trails", "server_names", "truncated", "history"}
    for source in (("--capture", DEMO, "192.0.2.10"), ("--cache", running_cache, "192.0.2.1")):
        (line,) = trail("--json", *source).splitlines()
        assert json.loads(line).keys() == fields


def test_at_looks_back():
    """--at shows the trails, and the remaining lives of their steps, as of a time."""
    at = f"{BEGIN}.500000"
    found = json.loads(trail("--json", "--capture", DEMO, "--at", at, "192.0.2.10"))
    assert [one["dns_root"] for one in found["trails"]] == ["shop.example"]
    assert all(0 <= step["age"] < 0.5 for step in found["trails"][0]["steps"])
    trail("--capture", DEMO, "--at", BEGIN - 1, "192.0.2.10", code=1)


def test_connection_chooses_among_rivals(running_cache):
    """The process, container, client or port of a connection decides which trail is the likeliest."""
    ask = ("--cache", running_cache, "192.0.2.1")
    assert roots(*ask) == ["b", "www.a"]
    for connection in ("process=70", "container=0123456789abcdef", "client=::ffff:10.0.0.2"):
        assert roots(*ask, "--connection", connection) == ["www.a", "b"]
    assert roots(*ask, "--connection", "client=10.0.0.3,port=443") == ["b", "www.a"]


def test_tree_shows_the_asker(running_cache):
    """A tree shows process, container, client, the server and its kind, and the evidence for its rank."""
    text = trail("--cache", running_cache, "192.0.2.1", "--connection", "process=70,port=443")
    first, second = text.split("b  (rival", 1)
    assert "asked by the same process" in first
    assert "1 answers led to 1 connections to port 443" in first
    who = " ".join(first.replace("│", " ").split())
    assert "asked by app(70) in container 0123456789ab at 10.0.0.2, answered by 10.0.0.53 (a configured server)" in who
    assert "(a foreign server)" in second


def test_text_of_strangers_is_escaped(running_cache):
    """Names, process names and container ids of strangers reach the terminal with their control bytes escaped."""
    for key in ("192.0.2.1", "192.0.2.66", "\x1b[31mred"):
        for more in ((), ("--json",), ("--at", "1008")):
            done = dnstrail("trail", "--cache", running_cache, key, *more)
            assert done.returncode == 0
            assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c == "\u202e" for c in done.stdout if c != "\n")
    text = trail("--cache", running_cache, "192.0.2.66")
    assert "\\x1b[31mevil\\x07\\u202e(66)" in text
    assert "\\x1b[31mname" in trail("--cache", running_cache, "192.0.2.1")


def test_not_found_is_code_1(running_cache):
    """An unknown key exits with 1; stderr names it with control bytes escaped."""
    for source in (("--capture", DEMO), ("--cache", running_cache)):
        for key in ("nothing.example", "no\x1bthing"):
            done = dnstrail("trail", *map(str, source), key)
            assert (done.returncode, done.stdout) == (1, "")
            assert "not found" in done.stderr
            assert "\x1b" not in done.stderr


WRONG = {
    "no key": [],
    "a client that is no address": ["a", "--connection", "client=here"],
    "a port out of range": ["a", "--connection", "port=65536"],
    "a negative process": ["a", "--connection", "process=-1"],
    "a process past all numbers": ["a", "--connection", f"process={'9' * 30}"],
    "a text that is no time": ["a", "--at", "soon"],
    "options of a cache without a file": ["a", "--dnscache", "grace=1"],
    "a wrong option of the cache": ["a", "--capture", str(DEMO), "--dnscache", "grace=x"],
    "no such file": ["a", "--capture", "/nowhere.pcap"],
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_code_2(case):
    """Wrong usage, or a file that is no capture, exits with 2 and a line that names the fault."""
    done = dnstrail("trail", *WRONG[case])
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr


def test_refused_request_is_code_2(running_cache):
    """A request that the cache refuses as bad exits with 2 and the message of the cache."""
    done = dnstrail("trail", "--cache", running_cache, "a", "--connection", f"container={'c' * 257}")
    assert done.returncode == 2
    assert "container" in done.stderr


def test_no_cache_is_code_3():
    """Without a cache to ask the exit code is 3."""
    with short_folder() as folder:
        done = dnstrail("trail", "--run-dir", folder, "a.example")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


def test_capture_cut_short_warns(tmp_path):
    """A capture that is cut short counts up to the cut; the command warns and exits with 0."""
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(DEMO.read_bytes()[:-7])
    done = dnstrail("trail", "--capture", cut, "192.0.2.10")
    assert (done.returncode, "cut short" in done.stderr) == (0, True)


CONTROL = "\x1b[31m\x9b\x07"
CONTROL_STEP = {
    "owner": CONTROL,
    "kind": CONTROL,
    "target": CONTROL,
    "age": 0.0,
    "remaining": 1.0,
    "count": 1,
    "state": CONTROL,
}
CONTROL_ASKER = dict.fromkeys(
    ("client", "server", "process_name", "executable", "container_id", "container_name"), CONTROL
)
CONTROL_TRAIL = {
    "dns_root": CONTROL, "state": CONTROL, "rival": False, "scope": CONTROL, "reasons": [CONTROL], "first_seen": 0.0,
    "last_seen": 0.0, "steps": [CONTROL_STEP],
    "asked": [{**CONTROL_ASKER, "process_id": 1, "matched": True, "foreign": None, "first_seen": 0, "last_seen": 0,
               "count": 1}],
}  # fmt: skip
CONTROL_REPLIES = {
    "get": [{"ip_addresses": [CONTROL], "dns_queries": [CONTROL], "dns_root": CONTROL, "state": CONTROL}],
    "trail": {"key": CONTROL, "scope": CONTROL, "trails": [CONTROL_TRAIL], "truncated": False,
              "server_names": [{"name": CONTROL, "evidence": CONTROL, "count": 1, "first_seen": 0, "last_seen": 0}]},
    "stats": {CONTROL: {CONTROL: CONTROL}},
}  # fmt: skip


@pytest.mark.parametrize("command", CONTROL_REPLIES)
def test_text_of_a_cache_is_escaped(command):
    """A terminal gets no control byte of a reply, whichever field holds it."""
    reply = msgpack.packb({"v": 1, "ok": True, "data": CONTROL_REPLIES[command], "complete": True})
    with short_folder() as folder, answering(lookups_address(folder), lambda _: reply):
        done = dnstrail(command, "--run-dir", folder, *(["a.example"] if command != "stats" else []))
    assert "\\x1b[31m\\x9b\\x07" in done.stdout, done.stderr
    assert not {"\x1b", "\x9b", "\x07"} & {*done.stdout, *done.stderr}
