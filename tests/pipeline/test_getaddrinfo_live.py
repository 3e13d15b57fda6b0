"""Calls of getaddrinfo, captured by uprobes on the real kernel."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dns.message
import pytest
from dns.rcode import NOERROR

from dnstrail.bus.ipc import lookups_address
from dnstrail.captured import Captured
from dnstrail_probe.ebpf.getaddrinfo import library_thread
from dnstrail_probe.ebpf.getaddrinfo.elf import interpreter
from live.ebpf_source import Watching, watching
from live.encrypted import SECRET, SECRET_ADDRESS, encrypted_client, encrypted_or_skip
from live.getaddrinfo_program import LEFT, NESTED, build, make_root, resolving
from live.namespaces import GOOGLE, SENDER, SERVER, Hosts, dnsmasq, hosts, live_or_skip
from live.pipelines import Run, pipeline
from live.processes import PATIENCE, run_dir, wait_until
from live.workers import asker

HIDDEN, HIDDEN6 = "192.0.2.77", "2001:db8::77"  # addresses that appear in no packet
MANY, READ = 70, 64  # addresses of one name, and the number that is read
THREADS = 23
CALLS, BUDGET = 5000, 2000
FILES = ("hosts", "resolv.conf", "nsswitch.conf")  # of /etc, as the programs see them
SILENT = "10.99.0.250"  # an address of no host
NOBODY = "127.0.0.9"  # an address without a DNS server
EAI_NONAME, EAI_AGAIN = -2, -3
# Resolves a name in each of its threads at once, and prints thread ids and names.
THREADED = r"""
import os, socket, sys, threading
def resolve(name):
    together.wait()
    socket.getaddrinfo(name, 80)
    os.write(1, f"{threading.get_native_id()} {name}\n".encode())
together = threading.Barrier(int(sys.argv[1]))
for number in range(int(sys.argv[1])):
    threading.Thread(target=resolve, args=(f"thread{number}.test",)).start()
"""
# Requests a family that the host lacks, tests for an address, and resolves a name; prints the errors.
HINTED = r"""
import socket
for name, family, flags in (
    ("hidden.test", socket.AF_INET6, socket.AI_ADDRCONFIG),
    ("many.test", 0, socket.AI_NUMERICHOST),
    ("hidden.test", socket.AF_INET, 0),
):
    try:
        socket.getaddrinfo(name, 80, family, socket.SOCK_STREAM, 0, flags)
    except socket.gaierror as error:
        print(error.errno)
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Yield a folder with the programs, and the files that they see in /etc."""
    live_or_skip("gcc", "musl-gcc")
    with run_dir() as made:
        made.chmod(0o755)
        for compiler in ("gcc", "musl-gcc"):
            build(compiler, made / f"by-{compiler}")
        lines = [f"{address} hidden.test" for address in (HIDDEN, HIDDEN6)]
        lines += [f"192.0.2.{number} many.test" for number in range(MANY)]
        lines += [f"192.0.2.{number} thread{number}.test" for number in range(THREADS)]
        (made / "hosts").write_text("\n".join(lines) + "\n")
        (made / "nsswitch.conf").write_text("hosts: files nested dns\n")
        build("gcc", made / "left", LEFT)
        build("gcc", made / "libnss_nested.so.2", NESTED, "-shared", "-fPIC")
        yield made


@pytest.fixture(scope="module")
def network(folder: Path) -> Iterator[Hosts]:
    """Two hosts, with a second DNS server."""
    with hosts() as both, dnsmasq(both.server, SENDER, 53, "/test/192.0.2.1"):
        wait_until(lambda: both.on_client("dig", "+short", f"@{SENDER}", "ready.test").stdout, "the server")
        yield both


@pytest.fixture(scope="module")
def seen(network: Hosts) -> Iterator[Watching]:
    """Yield the probe, started before the programs."""
    with watching(getaddrinfo=True) as started:
        yield started


def on_client(network: Hosts, folder: Path, *resolv: str) -> list[str]:
    """Return the command that starts a program on the client with a hosts file and a configuration of its own."""
    (folder / "resolv.conf").write_text(
        "\n".join(resolv or [f"nameserver {SERVER}"]) + "\noptions timeout:30 attempts:1\n"
    )
    mounts = "".join(f"mount --bind {folder}/{name} /etc/{name} && " for name in FILES)
    return ["ip", "netns", "exec", network.client, "sh", "-c", f'{mounts}exec "$@"', "sh"]


def reported(seen: Watching, pid: int, name: str, count: int) -> list[Captured]:
    """Return the responses about a name that calls of a process yielded, once there are `count`."""

    def found() -> list[Captured]:
        return [event for event in seen.of_getaddrinfo(name) if event.process.pid == pid]

    seen.until(lambda: len(found()) >= count, f"the calls for {name}")
    return found()


def addresses(found: list[Captured]) -> list[str]:
    """Return the addresses in responses."""
    answers = [rrset for event in found for rrset in dns.message.from_wire(event.payload).answer]
    return [rdata.to_text() for rrset in answers for rdata in rrset]


@pytest.mark.parametrize("compiler", ["gcc", "musl-gcc"])
def test_a_name_from_a_hosts_file(network, folder, seen, compiler):
    """A name from a hosts file is reported with its process, for glibc and musl, each address once."""
    program = folder / f"by-{compiler}"
    with resolving(*on_client(network, folder), program, names=["hidden.test"]) as asks:
        if compiler == "musl-gcc":  # whose library is its loader
            with program.open("rb") as file:
                library = Path(str(interpreter(partial(os.pread, file.fileno()))))
            seen.until(lambda: seen.watched(library), "the library")
        assert asks.next() == (0, {HIDDEN, HIDDEN6})
        found = reported(seen, asks.process.pid, "hidden.test", 2)
    assert sorted(addresses(found)) == [HIDDEN, HIDDEN6]
    assert {event.args["getaddrinfo"] for event in found} == {"success"}
    assert {(event.process.name, event.process.path, event.process.user_id) for event in found} == {
        (program.name, str(program), 0)
    }
    assert [event for event in seen.about("hidden.test") if event.flow] == []


def test_a_name_in_packets_is_suppressed(network, folder, seen):
    """A name whose answer was captured in packets is not reported again."""
    before = seen.source.counters["getaddrinfo_suppressed"]
    with resolving(*on_client(network, folder), folder / "by-gcc", names=["google.com"]) as asks:

        def own() -> list[Captured]:
            return [one for one in seen.about("google.com") if one.process and one.process.pid == asks.process.pid]

        assert asks.next() == (0, {GOOGLE})
        seen.until(lambda: own() and seen.source.counters["getaddrinfo_suppressed"] > before, "the call")
    assert all(event.flow for event in own()), "none is that of a call"


def test_a_short_name_is_reported_as_requested(network, folder, seen):
    """A name that the search list completes is reported as requested: packets contain only the longer name."""
    command = on_client(network, folder, f"nameserver {SENDER}", "search test")
    with resolving(*command, folder / "by-gcc", names=["short"]) as asks:
        assert asks.next() == (0, {"192.0.2.1"})
        assert addresses(reported(seen, asks.process.pid, "short", 1)) == ["192.0.2.1"]
    assert {event.process.pid for event in seen.about("short.test") if event.flow.role == "client"} == {
        asks.process.pid
    }


def test_a_failure_is_reported(network, folder, seen):
    """A name that cannot be resolved is reported with its failure."""
    command = on_client(network, folder, f"nameserver {NOBODY}")
    with resolving(*command, folder / "by-gcc", names=["nobody.test"]) as asks:
        assert asks.next() == (EAI_AGAIN, set())
        found = reported(seen, asks.process.pid, "nobody.test", 2)
    assert {event.args["getaddrinfo"] for event in found} == {"EAI_AGAIN"}
    assert addresses(found) == []


def test_a_call_that_asks_nobody_is_no_missing_name(network, folder, seen):
    """A family that the host lacks is reported as no data, and a test for an address is not reported."""
    command = [*on_client(network, folder), "unshare", "--net", sys.executable, "-c", HINTED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate(timeout=PATIENCE)[0].split() == [str(EAI_NONAME)] * 2
    lacking, resolved = reported(seen, process.pid, "hidden.test", 2)
    message = dns.message.from_wire(lacking.payload)
    assert lacking.args["getaddrinfo"] == "EAI_NONAME"
    assert (message.question[0].to_text(), message.rcode(), message.answer) == ("hidden.test. IN AAAA", NOERROR, [])
    assert addresses([resolved]) == [HIDDEN]
    assert [event for event in seen.of_getaddrinfo("many.test") if event.process.pid == process.pid] == []


def test_more_addresses_than_are_read(network, folder, seen):
    """The first 64 addresses of a name are reported, and a longer list is counted."""
    with resolving(*on_client(network, folder), folder / "by-gcc", names=["many.test"]) as asks:
        error, all_of_them = asks.next()
        assert (error, len(all_of_them)) == (0, MANY)
        found = addresses(reported(seen, asks.process.pid, "many.test", 1))
    assert len(found) == len(set(found)) == READ
    assert set(found) <= all_of_them
    assert seen.source.counters["getaddrinfo_cut_short"] == 1


def test_a_call_that_longjmp_left(network, folder, seen):
    """A call that longjmp left is not reported, and its name is not given to the next call."""
    command = [*on_client(network, folder, f"nameserver {SILENT}"), folder / "left", "left.test", "hidden.test"]
    with subprocess.Popen(command) as process:
        assert process.wait(PATIENCE) == 0
    assert sorted(addresses(reported(seen, process.pid, "hidden.test", 2))) == [HIDDEN, HIDDEN6]
    assert seen.of_getaddrinfo("left.test") == []


def test_a_call_within_a_call(network, folder, seen):
    """A call within a call is reported with its own name and outcome, and so is the outer call."""
    client = on_client(network, folder, f"nameserver {NOBODY}")
    with resolving(*client, "env", f"LD_LIBRARY_PATH={folder}", folder / "by-gcc", names=["outer.test"]) as asks:
        assert asks.next() == (EAI_AGAIN, set())
        inner = reported(seen, asks.process.pid, "hidden.test", 2)
        outer = reported(seen, asks.process.pid, "outer.test", 2)
    assert sorted(addresses(inner)) == [HIDDEN, HIDDEN6]
    assert {event.args["getaddrinfo"] for event in outer} == {"EAI_AGAIN"}


def test_two_probes_at_once(network, folder, seen):
    """Two probes report the same calls, and the end of the second does not affect the first."""
    command = on_client(network, folder)
    with resolving(*command, folder / "by-gcc", names=["hidden.test"] * 2) as asks:
        pid = asks.process.pid
        with watching(getaddrinfo=True) as second:
            assert asks.next() == (0, {HIDDEN, HIDDEN6})
            assert addresses(reported(second, pid, "hidden.test", 2)) == addresses(
                reported(seen, pid, "hidden.test", 2)
            )
        assert asks.next() == (0, {HIDDEN, HIDDEN6})
        reported(seen, pid, "hidden.test", 4)


def test_threads_at_once(network, folder, seen):
    """Simultaneous calls in many threads are each reported with their own thread and addresses."""
    command = [*on_client(network, folder), sys.executable, "-c", THREADED, str(THREADS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    wanted = {tuple(line.split()) for line in done.stdout.splitlines()}
    assert len(wanted) == THREADS
    names = [f"thread{number}.test" for number in range(THREADS)]
    seen.until(lambda: all(seen.of_getaddrinfo(name) for name in names), "all calls")
    assert {(str(event.process.thread_id), name) for name in names for event in seen.of_getaddrinfo(name)} == wanted
    assert [addresses(seen.of_getaddrinfo(name)) for name in names] == [
        [f"192.0.2.{number}"] for number in range(THREADS)
    ]


@pytest.fixture
def scratch(folder) -> Iterator[Path]:
    """Yield a mounted file system."""
    mount = folder / "scratch"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", mount], check=True)
    yield mount
    subprocess.run(["umount", "--lazy", mount], check=True)
    mount.rmdir()


def unmounts(path: Path) -> bool:
    """Unmount a file system; return false if it is in use."""
    return subprocess.run(["umount", path], capture_output=True, check=False).returncode == 0


def test_a_library_is_released_after_its_program(folder, scratch, monkeypatch):
    """A library below another root is watched while its program runs, and can be unmounted afterwards."""
    monkeypatch.setattr(library_thread, "_SWEEP", 0.2)
    root = scratch / "root"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", root], check=True)
    library = make_root(root, folder / "by-gcc")
    (root / "etc" / "hosts").write_text(f"{HIDDEN} rooted.test\n")
    with watching(getaddrinfo=True) as seen:
        with resolving("chroot", root, "/by-gcc", names=["rooted.test"]) as asks:
            seen.until(lambda: seen.watched(library), "the library")
            assert asks.next() == (0, {HIDDEN})
            (found,) = reported(seen, asks.process.pid, "rooted.test", 1)
        assert (addresses([found]), found.process.name) == ([HIDDEN], "by-gcc")
        wait_until(lambda: unmounts(root), "the library to be released")


def test_containers_of_one_image(folder, scratch):
    """A library in a layer that containers share is watched once, and the next container's first call is reported."""
    layer = scratch / "layer"
    layer.mkdir()
    library = make_root(layer, folder / "by-gcc")
    (layer / "etc" / "hosts").write_text(f"{HIDDEN} layered.test\n")
    with watching(getaddrinfo=True) as seen:
        for number in range(3):
            root = scratch / f"root{number}"
            for name in ("", "upper", "work"):
                (root.with_suffix(f".{name}") if name else root).mkdir()
            options = f"lowerdir={layer},upperdir={root}.upper,workdir={root}.work"
            subprocess.run(["mount", "-t", "overlay", "none", "-o", options, root], check=True)
            pivot = ["unshare", "--mount", "sh", "-c", 'cd "$0" && mkdir old && pivot_root . old && exec "$@"', root]
            with resolving(*pivot, "/by-gcc", names=["layered.test"]) as asks:
                if not number:
                    seen.until(lambda: seen.watched(library), "the library")
                assert asks.next() == (0, {HIDDEN})
                assert addresses(reported(seen, asks.process.pid, "layered.test", 1)) == [HIDDEN]
                assert seen.watched(library) == 1
            wait_until(lambda root=root: unmounts(root), "the end of the container")


def test_the_result_of_a_call_is_in_the_image(network, folder):
    """The result of a call reaches the image through the whole pipeline, even with unmatched=reject."""
    line = "--capture ebpf:getaddrinfo --dnscache unmatched=reject --output json --events net_packet_dns"
    with pipeline(*line.split()) as run, asker(lookups_address(run.folder)) as client:
        with resolving(*on_client(network, folder), folder / "by-gcc", names=["hidden.test"]) as asks:
            asks.next()
            both = HIDDEN, HIDDEN6
            wait_until(lambda: all(client.ask("get", key=one)["ok"] for one in both), "the name in the image")
        found = client.ask("get", key=HIDDEN)["data"]
        assert (found["dns_root"], found["dns_queries"], found["state"]) == ("hidden.test", ["hidden.test"], "grace")
        trail = client.ask("trail", key=HIDDEN6, process=asks.process.pid)["data"]
        assert trail["scope"] == "process"
        (asked,) = trail["trails"][0]["asked"]
        assert (asked["process_id"], asked["process_name"], asked["executable"], asked["matched"]) == (
            asks.process.pid,
            "by-gcc",
            str(folder / "by-gcc"),
            True,
        )
        wait_until(lambda: len(events_of(run, asks.process.pid)) >= 2, "the events, which are printed later")
        found = events_of(run, asks.process.pid)
        assert len(found) == 2
        args = {arg["name"]: arg["value"] for arg in found[0]["args"]}
        assert args["getaddrinfo"] == "success"
        assert args["proto_dns"]["questions"][0]["name"] == "hidden.test"


def events_of(run: Run, process: int) -> list[dict[str, Any]]:
    """Return the DNS events of a process."""
    return [event for event in run.named("net_packet_dns") if event["processId"] == process]


def secrets(run: Run) -> list[dict[str, Any]]:
    """Return the events that contain the name."""
    return [event for event in run.named("net_packet_dns") if SECRET in str(event["args"])]


def test_a_name_behind_encrypted_dns(network, folder):
    """A name resolved over HTTPS alone is in the image, with the program that resolved it."""
    encrypted_or_skip()
    line = "--capture ebpf:getaddrinfo --output json --events net_packet_dns"
    with (
        encrypted_client(network) as client,
        pipeline(*line.split()) as run,
        asker(lookups_address(run.folder)) as cache,
        resolving(*client, folder / "by-gcc", names=[SECRET]) as asks,
    ):
        assert asks.next() == (0, {SECRET_ADDRESS})
        wait_until(lambda: cache.ask("get", key=SECRET_ADDRESS)["ok"], "the name in the image")
        assert cache.ask("get", key=SECRET_ADDRESS)["data"]["dns_root"] == SECRET
        assert cache.ask("trail", key=SECRET_ADDRESS, process=asks.process.pid)["data"]["scope"] == "process"
        # Other programs of the host can send DNS meanwhile. No packet has this name.
        wait_until(lambda: secrets(run), "the event, which is printed after it is in the image")
        (found,) = secrets(run)
        assert (found["processId"], found["processName"]) == (asks.process.pid, "by-gcc")


def test_one_process_leaves_room_for_others(network, folder):
    """At most 2,000 calls of a process are reported within a second; the others are counted."""
    code = f"import socket\nfor _ in range({CALLS}): socket.getaddrinfo('hidden.test', 80, type=1)"
    with watching(getaddrinfo=True) as seen:
        began = time.monotonic()
        with subprocess.Popen([*on_client(network, folder), sys.executable, "-c", code]) as process:
            assert process.wait(PATIENCE) == 0
        seconds = math.ceil(time.monotonic() - began) + 1  # that the calls fall into; on a busy host there are more

        def count() -> int:  # the counter of the source contains the calls of other programs
            found = [event for event in seen.of_getaddrinfo("hidden.test") if event.process.pid == process.pid]
            return len(found) // len((HIDDEN, HIDDEN6))  # a call yields a response for each family

        seen.until(lambda: count() + seen.source.counters["getaddrinfo_over_budget"] >= CALLS, "all calls")
        assert count() + seen.source.counters["getaddrinfo_over_budget"] == CALLS
        assert BUDGET <= count() <= BUDGET * seconds
        assert seen.source.counters["ring_full"] == 0
