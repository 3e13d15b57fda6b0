"""`dnstrail run --enforce` and an ally of the command: answers count if it asked, and come the resolver's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnstrail_run.enforce.hooks import MOST_CONFLICTS, MOST_QUESTIONS, MOST_TARGETS
from live import allied_answers
from live.allied_answers import ALLY, ALLY_PORT, BLIND, CONFLICTS, DEVICE, FORGED, HONEST, SILENT
from live.attempts import allowed_address, other_address
from live.enforced import client_folder, enforced, watched
from live.listed_network import CRAFTING, ListedNetwork, listed_network, serving
from live.namespaces import CLIENT, Hosts, live_or_skip
from live.processes import run_dir

TRIES = int(os.environ.get("DNSTRAIL_ENFORCED_TRIES", "23"))  # of each form
MODULE = ("env", f"PYTHONPATH={Path(allied_answers.__file__).parents[1]}", sys.executable, "-m", "live.allied_answers")


@pytest.fixture(scope="module")
def network() -> Iterator[ListedNetwork]:
    """Yield the client, its resolver, and an ally of the command behind another interface of the client."""
    live_or_skip()
    with run_dir() as made:
        made.chmod(0o755)
        with (
            listed_network(made, 3) as both,
            behind_another_interface(both.hosts) as other,
            serving(both.hosts, made / "resolver", *MODULE, "resolver", CRAFTING),
            serving(other, made / "ally", *MODULE, "ally", CRAFTING),
            watched(),
        ):
            yield both


@contextmanager
def behind_another_interface(both: Hosts) -> Iterator[Hosts]:
    """Make a host that has the address of the resolver as well, and reaches the client by an interface of its own."""
    name = f"dta{os.getpid()}"
    steps = f"""
        netns add {name}
        link add {DEVICE} netns {both.client} type veth peer name eth0 netns {name}
        -n {name} addr add {ALLY}/24 dev eth0
        -n {name} addr add {CRAFTING}/32 dev eth0
        -n {name} link set lo up
        -n {name} link set eth0 up
        -n {name} route add {CLIENT} dev eth0
        -n {both.client} addr add {ALLY[:-1]}2/24 dev {DEVICE}
        -n {both.client} link set {DEVICE} up
        netns exec {both.client} sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{DEVICE}.rp_filter=0
    """
    try:
        for step in steps.strip().splitlines():
            subprocess.run(["ip", *step.split()], check=True, capture_output=True)
        yield Hosts(both.client, name)
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder with the list of the client, which can speak with its ally."""
    with client_folder() as made:
        with (made / "allowed").open("a") as file:
            file.write(f"{ALLY}:{ALLY_PORT}\n")
        yield made


def tried(network: ListedNetwork, folder: Path, form: str, tries: int = TRIES) -> tuple[dict, dict, set[str]]:
    """Let the command try a form; return its report, its results, and the addresses that it reached."""
    network.ask(CRAFTING, SILENT)
    before = network.seen()
    report, out = enforced(network, folder, *MODULE, "command", CRAFTING, form, str(tries))
    return report, json.loads(out), {address for _, address in network.seen() - before}


@pytest.mark.parametrize("form", [*FORGED, "unasked", "elsewhere", "device", "stream"])
def test_a_forged_answer_leads_nowhere(network, folder, form):
    """An answer with another id or question, without a question, or from another interface counts for nothing."""
    report, found, reached = tried(network, folder, form)
    assert found["other"] == {"EPERM": TRIES}
    assert not {address for address in reached if address.startswith("10.97.")}
    assert found["true"] == {"ok" if form in FORGED else "EPERM": TRIES}
    assert report["conflicts"] == []
    (note,) = report["enforcement"]
    assert ("another interface" in note) == (form in ("elsewhere", "device", "stream"))


@pytest.mark.parametrize("form", BLIND)
def test_a_segment_of_who_does_not_read_the_connection(network, folder, form):
    """A TCP segment with the right sequence number that acknowledges nothing leads nowhere, and is counted."""
    report, found, reached = tried(network, folder, form)
    assert found == {"other": {"EPERM": TRIES}, "true": {"EPERM": TRIES}}
    assert not reached
    (note,) = report["enforcement"]
    assert note.startswith(f"{TRIES} answers about allowed names answered no remembered question")


@pytest.mark.parametrize("form", CONFLICTS)
def test_a_surplus_answer_that_differs_refuses_all(network, folder, form):
    """If two answers to one question differ, the command reaches the addresses of neither; the report names both."""
    report, found, reached = tried(network, folder, form)
    assert found == {"other": {"EPERM": TRIES}, "true": {"EPERM": TRIES}}
    assert not reached
    assert len(report["conflicts"]) == min(TRIES, MOST_CONFLICTS)
    for one in report["conflicts"]:
        number = int(one["name"].removeprefix(form).removesuffix(".allowed.test"))
        true, other = allowed_address(4, number), other_address(4, number)
        sides = {
            "after": ([true], [other]),
            "before": ([other], [true]),
            "nothing": ([other], []),
            "subset": ([true, other], []),
        }
        assert (one["believed"], one["surplus"], one["more"]) == (*sides[form], 0)
        assert f"received conflicting answers for {one['name']}" in report["not_allowed"]


@pytest.mark.parametrize("form", [*HONEST, "twice"])
def test_an_honest_answer_counts(network, folder, form):
    """Answers in other letters, to EDNS, and all to a repeated question count; a copy is no conflict."""
    report, found, _ = tried(network, folder, form)
    assert found["true"] == {"ok": TRIES}
    assert found["other"] == {"ok" if form in ("copied", "twice") else "EPERM": TRIES}
    assert (report["conflicts"], report["enforcement"]) == ([], [])


def test_the_c_library_repeats_a_question(network, folder):
    """A question that glibc repeats with its id, since no answer came, may have two answers that differ."""
    network.ask(CRAFTING)
    with (Path("/etc/netns") / network.hosts.client / "resolv.conf").open("a") as file:
        file.write("options timeout:1 attempts:5 edns0\n")
    script = (
        "import socket; socket.create_connection(socket.getaddrinfo('twice0.allowed.test', 80, socket.AF_INET)[0][4])"
    )
    report, _ = enforced(network, folder, sys.executable, "-c", script)
    assert (report["exit_code"], report["conflicts"], report["enforcement"]) == (0, [], [])


@pytest.mark.parametrize(
    ("bound", "size", "results", "notes"),
    [
        ("addresses", 3, ["ok"], ["236 addresses of allowed names found no room"]),
        ("answers", MOST_TARGETS // 249 + 2, ["EPERM"], ["1 addresses of conflicting answers were forgotten"]),
        ("open", 5_000, ["ok"] * 3, []),
        ("questions", MOST_QUESTIONS + 5_000, ["EPERM"], ["1 answers about allowed names"]),
    ],
)
def test_the_bounds_of_answers(network, folder, bound, size, results, notes):
    """Thousands of open questions are answered; beyond a bound no answer is believed, and the report counts it."""
    network.ask(CRAFTING)
    report, out = enforced(network, folder, *MODULE, "exceed", CRAFTING, bound, str(size))
    assert json.loads(out) == results
    assert [note[: len(start)] for note, start in zip(report["enforcement"], notes, strict=True)] == notes
