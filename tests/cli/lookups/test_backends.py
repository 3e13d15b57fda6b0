"""Tests of dnstrail_cli.lookups.cache_backend, dnstrail_cli.lookups.capture_backend."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import dns.message
import pytest
from msgpack import packb

from builders.talk import OWN, back
from dnstrail.bus.ipc import lookups_address
from dnstrail.captured import Captured, Process
from dnstrail.protocol.batches import unpack
from live.processes import PATIENCE, dnstrail, run_dir, started, wait_until
from live.workers import answering, asker, cache, probe, response, seen, short_folder, wait_until_seen

DEMO = Path(__file__).parents[3] / "services/probe/dnstrail_probe/sources/demo.pcap"
DNSTRAIL = [sys.executable, "-m", "dnstrail_cli"]


def piped(*arguments: str, data: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run dnstrail with these bytes on a pipe at its stdin."""
    return subprocess.run([*DNSTRAIL, *arguments], input=data, capture_output=True, timeout=PATIENCE, check=False)


def test_a_capture_from_a_pipe_answers_as_its_file_does():
    """--capture - reads the capture from stdin: get and trail answer as they do over the file."""
    for command in (["get", "--json", "shop.example", "192.0.2.10"], ["trail", "--json", "192.0.2.10"]):
        from_file = dnstrail(*command, "--capture", DEMO)
        done = piped(*command, "--capture", "-", data=DEMO.read_bytes())
        assert (done.returncode, done.stdout.decode()) == (0, from_file.stdout)


@pytest.mark.parametrize("command", [["replay", "-"], ["--capture", "-"]])
def test_a_capture_from_a_pipe_goes_through_the_pipeline(command):
    """The probe of a run reads the capture from the stdin of the run."""
    with run_dir() as folder:
        options = ["--run-dir", str(folder), "--events", "WATCHED_NAME", "--output", "json"]
        done = piped(*command, *options, data=DEMO.read_bytes())
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["eventName"] for line in done.stdout.splitlines()] == ["WATCHED_NAME"]


def test_no_capture_on_a_pipe_is_code_2():
    """A pipe that holds no capture, or nothing, exits with 2 and one line."""
    for data in (b"", b"certainly no capture"):
        done = piped("get", "--capture", "-", "a.example", data=data)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


def test_the_first_interrupt_ends_the_writer_alone():
    """After the first Ctrl-C a lookup over a pipe goes on to its end, and answers from what it has read."""
    with subprocess.Popen(
        [*DNSTRAIL, "get", "--capture", "-", "shop.example"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as command:
        command.stdin.write(DEMO.read_bytes())
        command.stdin.flush()
        wait_until(lambda: reads_a_pipe(command.pid), "the lookup to open its capture")
        os.kill(command.pid, signal.SIGINT)
        command.stdin.close()
        assert b"192.0.2.10" in command.stdout.read()
        assert command.wait(PATIENCE) == 0


def reads_a_pipe(process: int) -> bool:
    """Return whether a process has its stdin open a second time: it has come to its capture."""
    descriptors = Path(f"/proc/{process}/fd")
    targets = []  # such as "pipe:[1234]"
    for descriptor in descriptors.iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            targets.append(descriptor.readlink())
    return targets.count((descriptors / "0").readlink()) > 1


def test_a_replay_has_a_folder_of_its_own():
    """A replay beside a running cache in the default folder neither asks it nor disturbs it, and leaves nothing."""
    with short_folder() as folder, cache(folder) as address, probe(folder) as publishing:
        publishing.turn(seen(response("live.example", "live.example 600 A 192.0.2.99")))
        with run_dir() as temporary:
            temporary.chmod(0o1777)  # as /tmp: a run of root becomes another user
            env = {"DNSTRAIL_RUN_DIR": str(folder), "TMPDIR": str(temporary)}
            done = dnstrail("replay", DEMO, "--events", "WATCHED_NAME", "--output", "json", **env)
            assert list(temporary.iterdir()) == []
        assert done.returncode == 0, done.stderr
        assert "WATCHED_NAME" in done.stdout
        assert dnstrail("get", "--cache", address, "live.example").returncode in (0, 1)
        assert dnstrail("get", "--cache", address, "shop.example").returncode == 1


def test_the_folder_of_a_replay_can_be_chosen():
    """With --run-dir a replay has its sockets there."""
    with run_dir() as folder, started("replay", DEMO, "--run-dir", folder, "--speed", "0.01"):
        wait_until((folder / "lookups.sock").exists, "the socket of the cache")


def reply(status: str, **more: object) -> bytes:
    data = {"status": status, "probes": 1, "turns": {}, "ended": False, "now": None, **more}
    return packb({"v": 1, "ok": True, "data": data, "complete": True})


@pytest.mark.parametrize("more", [(), ("--connection", "process=7,port=443")], ids=["many", "of a connection"])
@pytest.mark.parametrize("history", [True, False])
def test_a_miss_before_the_memory_of_the_cache_says_so(history, more):
    """A key that is not found at a time that the cache knows no more has `history` false, as text and as JSON."""
    flag = {} if history else {"history": False}
    refusal = {"v": 1, "ok": False, "error": "data_not_found", "message": "", **flag}
    many = {"v": 1, "ok": True, "data": [None], "complete": True, **flag}
    hint = "" if history else ", history incomplete"

    def answer(body: bytes) -> bytes:
        return packb(many if unpack(body)["op"] == "get_many" else refusal)

    with short_folder() as folder, answering(lookups_address(folder), answer):
        ask = ("a.example", "--run-dir", folder, *more)
        as_text, as_json = dnstrail("get", *ask), dnstrail("get", "--json", *ask)
        trail = dnstrail("trail", *ask)
    assert (as_text.returncode, as_text.stdout) == (1, f"a.example: not found{hint}\n")
    assert (as_json.returncode, json.loads(as_json.stdout)) == (1, {"key": "a.example", "found": False, **flag})
    assert (trail.returncode, trail.stderr) == (1, f"a.example: not found{hint}\n")


def test_a_name_that_was_asked_in_vain_says_so():
    """`get` and `trail` state who asked for a name without data, and when, as text and as JSON."""
    question, client = dns.message.make_query("gone.example", "AAAA", id=7).to_wire(), Process(7, "curl")
    failure = response("gone.example", id_=7, rcode="NXDOMAIN", rdtype="AAAA")
    messages = [(question, OWN), (failure, back(OWN))]
    with short_folder() as folder, cache(folder) as address, probe(folder, live=True) as publishing:
        now = time.time_ns()
        mark = publishing.turn(*(Captured(now, payload, flow, client) for payload, flow in messages))
        with asker(address) as waiting:
            wait_until_seen(waiting, mark)
        texts = [dnstrail(op, "--cache", address, "gone.example") for op in ("get", "trail")]
        as_json = dnstrail("get", "--json", "--cache", address, "gone.example", "other.example")
        earlier = dnstrail("get", "--cache", address, "--at", "2020-01-01T00:00:00Z", "gone.example")
    for done in texts:
        shown = done.stdout or done.stderr
        assert done.returncode == 1
        said = r"gone\.example: not found; AAAA was asked at 20\S+ \S+ by curl\(7\) at 10\.0\.0\.2: NXDOMAIN from \S+\n"
        assert re.fullmatch(said, shown), shown
    gone, other = map(json.loads, as_json.stdout.splitlines())
    assert (gone["found"], gone["asked"]["outcome"], gone["asked"]["process_name"]) == (False, "NXDOMAIN", "curl")
    assert other == {"key": "other.example", "found": False}
    assert "asked" not in earlier.stdout


def test_a_miss_before_the_memory_of_a_file_says_so():
    """The same holds over a file whose bounds evicted something that was live then."""
    ask = ("get", "--json", "--capture", DEMO, "nothing.example")
    for bounds, more, flag in (
        ("size=1", ("--at", "2026-11-01T12:00:03Z"), {"history": False}),
        ("size=1", (), {}),
        ("size=100", ("--at", "2026-11-01T12:00:01Z"), {}),
    ):
        done = dnstrail(*ask, "--dnscache", bounds, *more)
        assert json.loads(done.stdout) == {"key": "nothing.example", "found": False, **flag}


@pytest.mark.parametrize("command", [("get", "a.example"), ("trail", "a.example"), ("connections",)], ids=" ".join)
def test_a_container_that_is_no_text_is_refused(command):
    """Bytes that are no text can be no container: they exit with 2, and the line names the option."""
    for more in ((), ("--capture", DEMO)) if command[0] != "connections" else ((),):
        done = dnstrail(*command, *more, "--connection", "container=\udcff")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "Error: --connection container: '\\udcff' is no text\n"


def test_the_run_dir_of_the_environment_is_for_other_commands():
    """A lookup over a file leaves the run-dir of the environment alone."""
    assert dnstrail("get", "--capture", DEMO, "shop.example", DNSTRAIL_RUN_DIR="/nowhere").returncode == 0


@pytest.mark.parametrize(
    ("status", "more", "code", "fault"),
    [
        ("ok", {"fed": True}, 0, ""),
        ("ok", {"fed": False}, 1, "no event was applied"),
        ("ok", {"fed": True, "signatures": {}}, 0, ""),
        ("ok", {"fed": True, "signatures": {"X-1": "\x1b no list"}}, 1, "signature X-1: \\x1b no list"),
        ("waiting", {}, 1, "waiting"),
        ("silent", {"fed": True}, 1, "silent"),
        ("ended", {"fed": True}, 1, "ended"),
        ("vanished", {"fed": True}, 1, "vanished"),
        ("behind", {"fed": True}, 1, "behind"),
        ("\x1b[31mred", {}, 1, "\\x1b[31mred"),
    ],
)
def test_health_is_an_exit_code(status, more, code, fault):
    """Health exits with 0 only while a probe is heard, the image is fed and the signatures run, else with 1 and why."""
    with short_folder() as folder, answering(lookups_address(folder), lambda _: reply(status, **more)):
        for form in ((), ("--json",)):
            done = dnstrail("health", "--run-dir", folder, *form)
            assert (done.returncode, fault in done.stderr, bool(done.stderr)) == (code, True, bool(fault))
            assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("net_packet_dsn", "net_packet_dns"), ("watched_nam", "WATCHED_NAME"), ("sched_process_exe", "sched_process_exec"),
     ("foo", ""), ("x" * 100_000, "")],
)  # fmt: skip
def test_an_unknown_event_names_the_nearest(name, nearest):
    """An unknown name for --events exits with 2, and the error names a similar event or signature if there is one."""
    done = dnstrail("--capture", "demo", "--events", name)
    assert done.returncode == 2
    assert f"did you mean {nearest}?" in done.stderr if nearest else "did you mean" not in done.stderr
    assert len(done.stderr) < 1000
