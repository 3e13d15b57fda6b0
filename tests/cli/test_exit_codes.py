from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dnstrail.bus.ipc import lookups_address
from dnstrail.errors import (
    BusError,
    CaptureError,
    DataNotFound,
    KeyNotSupported,
    LookupRefused,
    SettingsError,
)
from dnstrail.pipeline.children import WorkerDied
from dnstrail.process.command import exit_code
from live.processes import PATIENCE, dnstrail, run_dir, unprivileged
from live.workers import open_bus

DEMO = str(Path(__file__).parents[2] / "services/probe/dnstrail_probe/sources/demo.pcap")
DNSTRAIL = [sys.executable, "-m", "dnstrail_cli"]


@dataclass(frozen=True)
class Case:
    """A command line, its exit code, and a part of the line that it prints on stderr."""

    arguments: str
    code: int
    error: str = ""


CASES = {
    "a name that is found": Case(f"get --capture {DEMO} shop.example", 0),
    "a name that is not found": Case(f"get --capture {DEMO} shop.example nothing.example", 1),
    "a trail that is found": Case(f"trail --capture {DEMO} 192.0.2.10", 0),
    "a trail that is not found": Case(f"trail --capture {DEMO} nothing.example", 1, "nothing.example: not found"),
    "a command that does not exist": Case("resolve a.example", 2, "resolve"),
    "an option that does not exist": Case("get --no-such-option a.example", 2, "--no-such-option"),
    "no key": Case("get", 2, "KEY"),
    "a capture file that is missing": Case("get --capture /no/such.pcap a.example", 2, "/no/such.pcap"),
    "a capture file that is none": Case("--capture /etc/passwd", 2, "/etc/passwd"),
    "the replay of a missing file": Case("replay /no/such.pcap", 2, "/no/such.pcap"),
    "the key - without a capture file": Case("get -", 2, "--capture"),
    "the key - beside another key": Case(f"get --capture {DEMO} - a.example", 2, "alone"),
    "a lookup over a live source": Case("get --capture packet a.example", 2, "'packet' is a live source"),
    "a trail over a live source": Case(
        "trail --capture dnstap:/tmp/x a.example", 2, "'dnstap:/tmp/x' is a live source"
    ),
    "the replay of a live source": Case("replay auto", 2, "'auto' is a live source"),
    "keys and a capture on one stdin": Case("get --capture - -", 2, "both read stdin"),
    "options of the cache without a capture file": Case("get --dnscache size=5 a.example", 2, "--capture"),
    "ports without a capture file": Case("get --dns-ports 5353 a.example", 2, "--dns-ports goes with --capture FILE"),
    "evidence without a capture file": Case("trail --evidence sni a.example", 2, "--evidence goes with --capture FILE"),
    "a cache beside a capture file": Case(
        f"get --capture {DEMO} --cache ipc:///x a.example", 2, "--cache goes without --capture"
    ),
    "a run-dir beside a capture file": Case(
        f"trail --capture {DEMO} --run-dir {{folder}} a.example", 2, "--run-dir goes without --capture"
    ),
    "a cache over tcp without keys": Case("get --cache tcp://127.0.0.1:1 a.example", 2, "tcp"),
    "an address of no cache": Case("stats --cache nowhere", 2, "ipc:///path"),
    "a cache at an empty path": Case("get --cache ipc:// a.example", 2, "'ipc://': no bus address"),
    "no address of a cache": Case("get --cache '' a.example", 2, "'': no bus address"),
    "a wrong address to serve": Case("cache --serve nowhere", 2, "--serve"),
    "a wrong address of the cache": Case("signatures --cache ipc://", 2, "--cache"),
    "a wrong address to publish": Case("probe --publish nowhere", 2, "--publish"),
    "an output at no address": Case("findings --to pub:", 2, "--to pub: '': no socket of this host"),
    "a capture without a name": Case("--capture ''", 2, "'' is neither a source nor a file"),
    "a dump that is not loaded anywhere": Case("load --state '' /dev/null", 2, "--state"),
    "a history without end": Case("--capture demo --dnscache history=1e300", 2, "dnscache history: '1e300'"),
    "a lookup without a cache": Case("get --run-dir {folder} a.example", 3, "{folder}"),
    "a trail without a cache": Case("trail --run-dir {folder} a.example", 3, "{folder}"),
    "stats without a cache": Case("stats --run-dir {folder}", 3, "{folder}"),
    "health without a cache": Case("health --run-dir {folder}", 3, "{folder}"),
    "a lookup below a folder that is a file": Case("get --run-dir /etc/passwd a.example", 3),
    "a cache in a folder that cannot be made": Case("cache --run-dir /proc/none", 4, "--run-dir"),
    "a probe in a folder that cannot be made": Case("probe --capture demo --run-dir /proc/none", 4, "--run-dir"),
    "a run in a folder that cannot be made": Case("--capture demo --run-dir /proc/none", 4, "--run-dir"),
    "a report of an unknown form": Case("run --report x.txt -- true", 2, ".json"),
    "a list that is missing": Case("run --allow /no/such -- true", 2, "/no/such"),
    "a list that is none": Case("run --allow {folder} -- true", 2, "not a regular file"),
    "a report that cannot be written": Case("run --report /no/such.json -- true", 2, "/no/such.json"),
    "a run without a command": Case("run", 2, "COMMAND"),
    "connections without a cache": Case("connections --run-dir {folder}", 3, "{folder}"),
    "a run in a folder that is a file": Case("--capture demo --run-dir /etc/passwd", 4, "--run-dir"),
}


@pytest.mark.parametrize("name", CASES)
def test_exit_code(name):
    """Each outcome has its exit code and a line that names what is wrong, without a traceback."""
    case = CASES[name]
    with run_dir() as folder:
        done = dnstrail(*shlex.split(case.arguments.format(folder=folder)), stdin="")
    assert done.returncode == case.code, done.stderr
    assert case.error.format(folder=folder) in done.stderr
    assert "Traceback" not in done.stderr
    assert case.code != 3 or len(done.stderr.splitlines()) == 1
    assert bool(done.stderr) == (case.code > 1 or bool(case.error))


def test_a_second_cache_in_the_same_folder_exits_with_4():
    """A cache that finds its socket served exits with 4 and names the other option."""
    with run_dir() as folder, open_bus() as bus:
        bus.server(lookups_address(folder))
        done = dnstrail("cache", "--run-dir", folder)
    assert (done.returncode, "--run-dir" in done.stderr) == (4, True)


@pytest.mark.parametrize("arguments", [["probe", "--capture", "packet"], ["--capture", "packet"]])
def test_a_capture_without_privilege_exits_with_4(arguments):
    """Without a privilege for its source the probe exits with 4, and so does the run around it."""
    with run_dir() as folder:
        folder.parent.chmod(0o1777)
        folder.chmod(0o1777)  # as /tmp
        command = [*unprivileged(), *DNSTRAIL, *arguments, "--run-dir", str(folder / "run")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 4, done.stderr
    assert "CAP_NET_RAW" in done.stderr
    assert "Traceback" not in done.stderr


ENDINGS = {
    SettingsError("a"): 2,
    CaptureError("a", "b"): 2,
    KeyNotSupported(5): 2,
    LookupRefused("bad_request", "a"): 2,
    DataNotFound("a"): 1,
    LookupRefused("overloaded", "a"): 3,
    BusError("a", "b"): 4,
    WorkerDied("probe", 4): 4,
    WorkerDied("probe", 2): 2,
    WorkerDied("cache", 1): 4,
    WorkerDied("cache", -9): 4,
}


@pytest.mark.parametrize("error", ENDINGS, ids=repr)
def test_an_error_decides_the_exit_code(error):
    """The kind of an error decides the exit code; a run exits as the worker that died."""
    assert exit_code(error) == ENDINGS[error]


WRITERS = {
    "lookup": ["get", "--capture", DEMO, "shop.example"],
    "lookup as JSON": ["get", "--capture", DEMO, "--json", "shop.example"],
    "trail": ["trail", "--capture", DEMO, "192.0.2.10"],
    "events as JSON": ["replay", DEMO, "--output", "json"],
    "events as a table": ["replay", DEMO, "--output", "table"],
    "help": ["--help"],
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line(name):
    """Where stdout is full, every command exits with 4 and a line with the reason."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*DNSTRAIL, *WRITERS[name]], stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False
        )
    assert done.returncode == 4
    assert [line for line in done.stderr.splitlines() if "ready" not in line] == ["Error: No space left on device"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_closed_pipe_ends_quietly(name):
    """Where the reader of stdout has gone, every command exits with 0 and reports no error."""
    command = subprocess.Popen([*DNSTRAIL, *WRITERS[name]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    command.stdout.close()
    errors = command.stderr.read()
    command.stderr.close()
    assert command.wait(PATIENCE) == 0, errors
    assert [line for line in errors.splitlines() if not line.startswith("dnstrail: ")] == []


def test_stdout_and_stderr_may_both_be_full():
    """Where stderr is full, too, the exit code is all that is left, and is right."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*DNSTRAIL, *WRITERS["lookup"]], stdout=full, stderr=full, timeout=PATIENCE, check=False)
    assert done.returncode == 4


CLOSED = {
    "stdout": Case("get --capture demo shop.example >&-", 0),
    "stdout of a run": Case("replay demo >&-", 0),
    "stderr": Case("get --capture demo shop.example 2>&-", 0),
    "stderr of a run": Case("replay demo 2>&-", 0),
    "stdout and stderr": Case("get --capture demo nothing.example >&- 2>&-", 1),
    "stdin as keys": Case("get --capture demo - <&-", 0),
    "stdin as a capture": Case("get --capture - shop.example <&-", 2, "nothing can be read from it"),
}


@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_stream_reads_and_writes_nothing(name):
    """A command works as if a closed stdin, stdout or stderr were /dev/null."""
    case = CLOSED[name]
    command = f"{shlex.join(DNSTRAIL)} {case.arguments}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == case.code, done.stderr
    assert case.error in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout or not name.startswith("stderr")


ENDS = """
import atexit, sys, threading, time
import click
from dnstrail.process.command import run_command

class Object:
    def __del__(self):
        print("freed", file=sys.stderr)

@click.command()
@click.option("--thread", is_flag=True)
@click.pass_context
def command(ctx, thread):
    atexit.register(print, "last", end="")
    click.echo("written", nl=False)
    sys.stderr.write("said ")
    globals()["kept"] = Object()
    if thread:
        threading.Thread(target=lambda: print(threading.main_thread().join() or " joined ", end="")).start()
    ctx.exit(261)

run_command(command, "x")
"""


@pytest.mark.parametrize(
    ("arguments", "out", "err"), [([], "writtenlast", "said "), (["--thread"], "written joined last", "said freed\n")]
)
def test_a_command_ends_without_freeing_its_objects(arguments, out, err):
    """What was registered for the end runs, and what was written arrives; a thread that still works is awaited."""
    words = [sys.executable, "-c", ENDS, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (261 % 256, out, err)
