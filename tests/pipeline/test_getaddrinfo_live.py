"""What the C library's getaddrinfo tells programs, seen by the kernel where the library is called."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest

from dnstrail.bus.ipc import lookups_address
from dnstrail.captured import Captured
from dnstrail_probe.ebpf.getaddrinfo import library_finder
from live.ebpf_source import Watching, watching
from live.encrypted import SECRET, SECRET_ADDRESS, encrypted_client, encrypted_or_skip
from live.getaddrinfo_program import LEFT, NESTED, build, make_root, resolving
from live.namespaces import GOOGLE, SENDER, SERVER, Hosts, dnsmasq, hosts, live_or_skip
from live.pipelines import pipeline
from live.processes import run_dir, wait_until
from live.workers import asker

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:not a bytes object:DeprecationWarning"),  # bcc's own
]
HIDDEN, HIDDEN6 = "192.0.2.77", "2001:db8::77"  # addresses that no packet tells
MANY, READ = 70, 64  # addresses of one name, and how many of them are looked at
THREADS = 23
CALLS, BUDGET = 5000, 2000
FILES = ("hosts", "resolv.conf", "nsswitch.conf")  # of /etc, as the programs see them
SILENT = "10.99.0.250"  # where nobody is
NOBODY = "127.0.0.9"  # where no server of names is
EAI_AGAIN = -3
# Resolves a name in each of its threads at once; the threads' ids, and their names.
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


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where the programs are, and the files that they see as those of their host."""
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
    """Two hosts, with a further server of names."""
    with hosts() as both, dnsmasq(both.server, SENDER, 53, "/test/192.0.2.1"):
        wait_until(lambda: both.on_client("dig", "+short", f"@{SENDER}", "ready.test").stdout, "the server")
        yield both


@pytest.fixture(scope="module")
def seen(network: Hosts) -> Iterator[Watching]:
    """The probe, which is there before the programs."""
    with watching(getaddrinfo=True) as started:
        yield started


def on_client(network: Hosts, folder: Path, *resolv: str) -> list[str]:
    """What starts a program on the client, with hosts and a configuration of its own; its process is the program's."""
    (folder / "resolv.conf").write_text(
        "\n".join(resolv or [f"nameserver {SERVER}"]) + "\noptions timeout:1 attempts:1\n"
    )
    mounts = "".join(f"mount --bind {folder}/{name} /etc/{name} && " for name in FILES)
    return ["ip", "netns", "exec", network.client, "sh", "-c", f'{mounts}exec "$@"', "sh"]


def told_to(seen: Watching, pid: int, name: str, count: int) -> list[Captured]:
    """What a process was told of a name by so many messages, and no packet told before."""

    def found() -> list[Captured]:
        return [event for event in seen.told(name) if event.process.pid == pid]

    seen.until(lambda: len(found()) >= count, f"what was told of {name}")
    return found()


def addresses(told: list[Captured]) -> list[str]:
    """The addresses in messages."""
    answers = [rrset for event in told for rrset in dns.message.from_wire(event.payload).answer]
    return [rdata.to_text() for rrset in answers for rdata in rrset]


@pytest.mark.parametrize("compiler", ["gcc", "musl-gcc"])
def test_a_name_that_no_packet_tells(network, folder, seen, compiler):
    """A name from a file is told with the process that asked, in glibc and in musl, and with each address once."""
    program, options = folder / f"by-{compiler}", seen.source.counters["libraries_watched"]
    with resolving(*on_client(network, folder), program, names=["hidden.test"]) as asks:
        if compiler == "musl-gcc":  # the first program with this library
            seen.until(lambda: seen.source.counters["libraries_watched"] > options, "the library")
        assert asks.next() == (0, {HIDDEN, HIDDEN6})
        told = told_to(seen, asks.process.pid, "hidden.test", 2)
    assert sorted(addresses(told)) == [HIDDEN, HIDDEN6]
    assert {event.args["getaddrinfo"] for event in told} == {"success"}
    assert {(event.process.name, event.process.path, event.process.user_id) for event in told} == {
        (program.name, str(program), 0)
    }
    assert [event for event in seen.about("hidden.test") if event.flow] == []


def test_a_name_that_packets_tell_is_not_told_again(network, folder, seen):
    """Where the answer came by DNS that anybody can read, it is told once, by its packets."""
    before = seen.source.counters["getaddrinfo_suppressed"]
    with resolving(*on_client(network, folder), folder / "by-gcc", names=["google.com"]) as asks:
        assert asks.next() == (0, {GOOGLE})
        seen.until(lambda: seen.source.counters["getaddrinfo_suppressed"] > before, "the call")
    assert [event.process.pid for event in seen.about("google.com") if not event.flow.egress][-1] == asks.process.pid
    assert seen.told("google.com") == []


def test_a_short_name_is_told_as_it_was_asked(network, folder, seen):
    """A name that the resolver completes from its search list is told, for packets told the longer one alone."""
    command = on_client(network, folder, f"nameserver {SENDER}", "search test")
    with resolving(*command, folder / "by-gcc", names=["short"]) as asks:
        assert asks.next() == (0, {"192.0.2.1"})
        assert addresses(told_to(seen, asks.process.pid, "short", 1)) == ["192.0.2.1"]
    assert {event.process.pid for event in seen.about("short.test") if event.flow.role == "client"} == {
        asks.process.pid
    }


def test_a_failure_is_told(network, folder, seen):
    """A name that cannot be resolved, since nobody answers, is told as that."""
    command = on_client(network, folder, f"nameserver {NOBODY}")
    with resolving(*command, folder / "by-gcc", names=["nobody.test"]) as asks:
        assert asks.next() == (EAI_AGAIN, set())
        told = told_to(seen, asks.process.pid, "nobody.test", 2)
    assert {event.args["getaddrinfo"] for event in told} == {"EAI_AGAIN"}
    assert addresses(told) == []


def test_more_addresses_than_are_looked_at(network, folder, seen):
    """Of a name with very many addresses the first are told, and that there were more is counted."""
    with resolving(*on_client(network, folder), folder / "by-gcc", names=["many.test"]) as asks:
        error, all_of_them = asks.next()
        assert (error, len(all_of_them)) == (0, MANY)
        told = addresses(told_to(seen, asks.process.pid, "many.test", 1))
    assert len(told) == len(set(told)) == READ
    assert set(told) <= all_of_them
    assert seen.source.counters["getaddrinfo_cut_short"] == 1


def test_a_call_that_was_left_is_not_taken_for_another(network, folder, seen):
    """A call that a program left by a jump is not told, nor is its name told of what the program asked then."""
    command = [*on_client(network, folder, f"nameserver {SILENT}"), folder / "left", "left.test", "hidden.test"]
    with subprocess.Popen(command) as process:
        assert process.wait(20) == 0
    assert sorted(addresses(told_to(seen, process.pid, "hidden.test", 2))) == [HIDDEN, HIDDEN6]
    assert seen.told("left.test") == []


def test_a_call_within_a_call(network, folder, seen):
    """Where the library calls itself before it returns, either call is told with its own name and outcome."""
    client = on_client(network, folder, f"nameserver {NOBODY}")
    with resolving(*client, "env", f"LD_LIBRARY_PATH={folder}", folder / "by-gcc", names=["outer.test"]) as asks:
        assert asks.next() == (EAI_AGAIN, set())
        inner = told_to(seen, asks.process.pid, "hidden.test", 2)
        outer = told_to(seen, asks.process.pid, "outer.test", 2)
    assert sorted(addresses(inner)) == [HIDDEN, HIDDEN6]
    assert {event.args["getaddrinfo"] for event in outer} == {"EAI_AGAIN"}


def test_two_probes_at_once(network, folder, seen):
    """A second probe is told what the first one is, and its end takes nothing from it."""
    command = on_client(network, folder)
    with resolving(*command, folder / "by-gcc", names=["hidden.test"] * 2) as asks:
        pid = asks.process.pid
        with watching(getaddrinfo=True) as second:
            assert asks.next() == (0, {HIDDEN, HIDDEN6})
            assert addresses(told_to(second, pid, "hidden.test", 2)) == addresses(told_to(seen, pid, "hidden.test", 2))
        assert asks.next() == (0, {HIDDEN, HIDDEN6})
        told_to(seen, pid, "hidden.test", 4)


def test_threads_at_once(network, folder, seen):
    """Of calls in many threads at once each is told with its own thread, and its own addresses."""
    command = [*on_client(network, folder), sys.executable, "-c", THREADED, str(THREADS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    wanted = {tuple(line.split()) for line in done.stdout.splitlines()}
    assert len(wanted) == THREADS
    names = [f"thread{number}.test" for number in range(THREADS)]
    seen.until(lambda: all(seen.told(name) for name in names), "all calls")
    assert {(str(event.process.thread_id), name) for name in names for event in seen.told(name)} == wanted
    assert [addresses(seen.told(name)) for name in names] == [[f"192.0.2.{number}"] for number in range(THREADS)]


@pytest.fixture
def scratch(folder) -> Iterator[Path]:
    """A file system of its own."""
    mount = folder / "scratch"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", mount], check=True)
    yield mount
    subprocess.run(["umount", "--lazy", mount], check=True)
    mount.rmdir()


def unmounts(path: Path) -> bool:
    """Unmount a file system; False if it is in use."""
    return subprocess.run(["umount", path], capture_output=True, check=False).returncode == 0


def test_a_library_that_comes_and_goes(folder, scratch, monkeypatch):
    """A program below a root of its own is seen once it runs; when it has ended, what held its library is gone."""
    monkeypatch.setattr(library_finder, "_SWEEP", 0.2)
    root = scratch / "root"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", root], check=True)
    make_root(root, folder / "by-gcc")
    (root / "etc" / "hosts").write_text(f"{HIDDEN} rooted.test\n")
    with watching(getaddrinfo=True) as seen:
        options = seen.source.counters["libraries_watched"]
        with resolving("chroot", root, "/by-gcc", names=["rooted.test"]) as asks:
            seen.until(lambda: seen.source.counters["libraries_watched"] > options, "the library")
            assert asks.next() == (0, {HIDDEN})
            (told,) = told_to(seen, asks.process.pid, "rooted.test", 1)
        assert (addresses([told]), told.process.name) == ([HIDDEN], "by-gcc")
        wait_until(lambda: unmounts(root), "what held the library to go")


def test_containers_of_one_image(folder, scratch):
    """Where containers have their files from one layer, it is watched once, and the next has its first call told."""
    layer = scratch / "layer"
    layer.mkdir()
    make_root(layer, folder / "by-gcc")
    (layer / "etc" / "hosts").write_text(f"{HIDDEN} layered.test\n")
    with watching(getaddrinfo=True) as seen:
        before = seen.source.counters["libraries_watched"]
        for number in range(3):
            root = scratch / f"root{number}"
            for name in ("", "upper", "work"):
                (root.with_suffix(f".{name}") if name else root).mkdir()
            options = f"lowerdir={layer},upperdir={root}.upper,workdir={root}.work"
            subprocess.run(["mount", "-t", "overlay", "none", "-o", options, root], check=True)
            pivot = ["unshare", "--mount", "sh", "-c", 'cd "$0" && mkdir old && pivot_root . old && exec "$@"', root]
            with resolving(*pivot, "/by-gcc", names=["layered.test"]) as asks:
                if not number:
                    seen.until(lambda: seen.source.counters["libraries_watched"] > before, "the library")
                assert asks.next() == (0, {HIDDEN})
                assert addresses(told_to(seen, asks.process.pid, "layered.test", 1)) == [HIDDEN]
            wait_until(lambda root=root: unmounts(root), "the end of the container")
        assert seen.source.counters["libraries_watched"] == before + 1


def test_what_was_told_is_in_the_image(network, folder):
    """Through the whole pipeline, also where answers without a query are rejected: the name, its process, its state."""
    line = "--capture ebpf:getaddrinfo --dnscache unmatched=reject --output json --events net_packet_dns"
    with pipeline(*line.split()) as run, asker(lookups_address(run.folder)) as client:
        with resolving(*on_client(network, folder), folder / "by-gcc", names=["hidden.test"]) as asks:
            asks.next()
            wait_until(lambda: client.ask("get", key=HIDDEN)["ok"], "the name in the image")
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
        told = [event for event in run.named("net_packet_dns") if event["processId"] == asks.process.pid]
        assert len(told) == 2
        args = {arg["name"]: arg["value"] for arg in told[0]["args"]}
        assert args["getaddrinfo"] == "success"
        assert args["proto_dns"]["questions"][0]["name"] == "hidden.test"


def test_a_name_behind_encrypted_dns(network, folder):
    """A name that a resolver asks by HTTPS alone is in the image, with the program that it was told, and no packet."""
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
        (told,) = run.named("net_packet_dns")
        assert (told["processId"], told["processName"]) == (asks.process.pid, "by-gcc")


def test_one_process_leaves_room_for_others(network, folder):
    """Of a process that calls without end so many calls are told in a second; the others are counted."""
    code = f"import socket\nfor _ in range({CALLS}): socket.getaddrinfo('hidden.test', 80, type=1)"
    with watching(getaddrinfo=True) as seen:
        seen.look()  # at the call by which the probe has tried it
        before = seen.source.counters["getaddrinfo"]
        subprocess.run([*on_client(network, folder), sys.executable, "-c", code], timeout=30, check=True)

        def told() -> int:
            return seen.source.counters["getaddrinfo"] - before

        seen.until(lambda: told() + seen.source.counters["getaddrinfo_over_budget"] >= CALLS, "all calls")
        assert told() + seen.source.counters["getaddrinfo_over_budget"] == CALLS
        assert BUDGET <= told() < CALLS
        assert seen.source.counters["ring_full"] == 0
