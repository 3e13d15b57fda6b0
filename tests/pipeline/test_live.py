from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

from dnstrail.bus.ipc import lookups_address
from live.namespaces import CLIENT, GOOGLE, SENDER, Hosts, dnsmasq, live_or_skip
from live.pipelines import Run, pipeline
from live.processes import PATIENCE, run_dir, started, text_of, unprivileged, wait_until
from live.stopped import frozen
from live.workers import asker

LINE = (
    "--output option:sort-events --output json --output option:parse-arguments "
    "--dnscache enable --events net_packet_dns,DNS_DATA_SOURCE"
)
CONNECT = "import socket; s = socket.socket(); s.connect_ex((socket.gethostbyname('google.com'), 81))"


def ping(network: Hosts) -> None:
    """Ping google.com once."""
    done = network.on_client("ping", "-c1", "-W60", "google.com")
    assert done.returncode == 0, done.stdout + done.stderr


def test_twenty_pings_are_twenty_findings(network):
    """Every ping has packets with its process, exactly one finding, and its name and address in the image."""
    with pipeline(*LINE.split()) as run:
        assert "capturing by ebpf" in run.errors
        for number in range(1, 21):
            ping(network)
            wait_until(lambda number=number: len(own_findings(run)) >= number, f"finding {number}")
        with asker(lookups_address(run.folder)) as client:
            assert GOOGLE in client.ask("get", key="google.com")["data"]["ip_addresses"]
            assert "google.com" in client.ask("get", key=GOOGLE)["data"]["dns_queries"]
        findings = own_findings(run)
        pings = {finding["processId"] for finding in findings}
        assert len(findings) == len(pings) == 20
        assert {(event["processName"], event["executable"]["path"]) for event in findings} == {
            ("ping", "/usr/bin/ping")
        }
        wait_until(lambda: {event["processId"] for event in run.named("net_packet_dns")} >= pings, "their packets")
        questions = [event for event in run.named("net_packet_dns") if event["processId"] in pings]
        assert {event["processId"] for event in questions} == pings
        assert {(event["processName"], event["executable"]["path"]) for event in questions} == {
            ("ping", "/usr/bin/ping")
        }


def own_findings(run: Run) -> list[dict]:
    """Return the findings about programs that this process started: other tests may ping at the same time."""
    return [event for event in run.named("DNS_DATA_SOURCE") if event["parentProcessId"] == os.getpid()]


def test_connections_have_the_names_behind_them(network):
    """A connection to a resolved address is an event with its process and the names of the address."""
    with pipeline("--output", "json", "--events", "net_tcp_connect") as run:
        clients: set[int] = set()
        for number in range(1, 24):
            clients.add(connect(network))
            wait_until(lambda number=number: len(connections(run, clients)) >= number, f"connection {number}")
        reported = [{arg["name"]: arg["value"] for arg in event["args"]} for event in connections(run, clients)]
        assert len({args.pop("socket") for args in reported}) == 23
        assert reported == [{"dst": GOOGLE, "dst_port": 81, "dst_dns": ["google.com"]}] * 23
        stats = run.stats()
        assert stats["admission"]["copies"] >= 23  # each answer is seen on the sockets of both ends
        assert stats["admission"]["matched"] >= 23


def connect(network: Hosts) -> int:
    """Connect once on the client; return the process."""
    with network.start_on_client(sys.executable, "-c", CONNECT) as process:
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out
    return process.pid


def connections(run: Run, clients: set[int]) -> list[dict]:
    """Return the connections of some processes: others of the host may connect to the same port of an address."""
    return [event for event in run.named("net_tcp_connect") if event["processId"] in clients]


def test_only_the_probe_keeps_privileges(network):
    """Cache and signatures run as a user of their own and the probe as root, and they still communicate."""
    with pipeline(*LINE.split()) as run:
        uids = {name: text_of(Path(f"/proc/{run.worker(name)}/status")) for name in ("probe", "cache", "signatures")}
        owners, effective = (
            {name: text.partition("Uid:")[2].split()[place] for name, text in uids.items()} for place in (0, 1)
        )
        assert effective["probe"] == "0"
        assert owners["cache"] == owners["signatures"] == owners["probe"] == effective["cache"]
        assert owners["cache"] not in {"0", str(pwd.getpwnam("nobody").pw_uid)}
        ping(network)
        wait_until(lambda: run.named("DNS_DATA_SOURCE"), "a finding")


def test_frozen_cache_delays_and_does_not_lose_the_finding(network):
    """A lookup waits for a cache that is stopped around the ping: it never answers from before its event."""
    with pipeline(*LINE.split()) as run:
        for number in range(1, 6):
            with frozen(run.worker("cache")):
                ping(network)
                time.sleep(0.1)  # the freeze is the point
            wait_until(lambda number=number: len(own_findings(run)) >= number, f"finding {number}")


def test_connections_of_a_frozen_cache_have_their_names(network):
    """A connection waits for its names while the cache stands still for a second, and so do those after it."""
    with pipeline("--output", "json", "--events", "net_tcp_connect") as run:
        clients: set[int] = set()
        for number in (1, 2):
            with frozen(run.worker("cache")):
                clients.add(connect(network))
                time.sleep(1)  # the freeze is the point
            wait_until(lambda number=number: len(connections(run, clients)) >= number, f"connection {number}")
        reported = [{arg["name"]: arg["value"] for arg in event["args"]} for event in connections(run, clients)]
    assert [arguments["dst_dns"] for arguments in reported] == [["google.com"]] * 2


def test_names_behind_dockers_nat_are_in_the_image(network):
    """Names resolved through the NAT rules of Docker's embedded DNS, with its random port, are in the image."""
    nat = ["iptables", "-t", "nat"]
    rules = [
        [
            *nat,
            "-A",
            "OUTPUT",
            "-d",
            "127.0.0.11",
            "-p",
            "udp",
            "--dport",
            "53",
            "-j",
            "DNAT",
            "--to",
            "127.0.0.11:44932",
        ],
        [*nat, "-A", "POSTROUTING", "-s", "127.0.0.11", "-p", "udp", "--sport", "44932", "-j", "SNAT", "--to", ":53"],
    ]
    with pipeline(*LINE.split()) as run, dnsmasq(network.client, "127.0.0.11", 44932, "/behind.example/192.0.2.99"):
        for rule in rules:
            done = network.on_client(*rule)
            assert done.returncode == 0, done.stderr
        ask = ["dig", "+short", "+tries=3", "+time=2", "@127.0.0.11", "behind.example"]
        wait_until(lambda: "192.0.2.99" in network.on_client(*ask).stdout, "an answer behind NAT")
        with asker(lookups_address(run.folder)) as client:
            wait_until(lambda: client.ask("get", key="192.0.2.99")["ok"], "the answer in the image")
            assert client.ask("get", key="192.0.2.99")["data"]["dns_root"] == "behind.example"
        wait_until(
            lambda: any(event["executable"]["path"].endswith("/dig") for event in run.named("net_packet_dns")), "dig"
        )


def test_killed_probe_ends_the_run(network):
    """After kill -9 of the probe the run ends and names it, and the host resolves names all the while."""
    with pipeline(*LINE.split()) as run:
        assert network.on_client("getent", "hosts", "google.com").returncode == 0
        os.kill(run.worker("probe"), signal.SIGKILL)
        assert network.on_client("getent", "hosts", "google.com").returncode == 0
        assert run.process.wait(PATIENCE) == 4
        assert "the probe worker" in run.errors
    assert network.on_client("getent", "hosts", "google.com").returncode == 0


def test_without_capabilities_the_next_source_is_taken():
    """Without capabilities each source is rejected in one line, and the demo capture is played."""
    live_or_skip()
    with run_dir() as folder:
        folder.chmod(0o1777)
        command = ["-m", "dnstrail_cli", "--run-dir", str(folder / "run"), "--events", "WATCHED_NAME"]
        done = subprocess.run(
            [*unprivileged(), sys.executable, *command], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "no capture by ebpf: needs CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF: run it with sudo" in done.stderr
    assert "no capture by packet: needs CAP_NET_RAW: run it with sudo" in done.stderr
    assert "WATCHED_NAME" in done.stdout


def test_the_packet_source_captures_the_same_names(network):
    """An AF_PACKET socket in the namespace of the client captures the names, without processes."""
    with run_dir() as folder, started("cache", "--run-dir", folder):
        command = ["ip", "netns", "exec", network.client, sys.executable, "-m", "dnstrail_probe"]
        command += ["--capture", "packet", "--run-dir", str(folder), "--subscribers", "1"]
        probe = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: "ready" in probe.stderr.readline(), "the probe")
            ping(network)
            with asker(lookups_address(folder)) as client:
                wait_until(lambda: client.ask("get", key="google.com")["ok"], "the name in the image")
                assert client.ask("stats")["data"]["lost"]["total"] == 0
        finally:
            probe.terminate()
            probe.wait(PATIENCE)
            probe.stderr.close()


def test_twenty_thousand_responses_a_second_are_related_or_counted(network, capsys):
    """Of 20,000 responses a second 99 % are related, and every other one is counted at its hop."""
    rate, seconds = 20_000, 5
    with pipeline("--dnscache", "enable,unmatched=accept", "--events", "DNS_DATA_SOURCE", "--output", "json") as run:
        sender = Path(__file__).parents[1] / "support/live/flood.py"
        command = ["ip", "netns", "exec", network.server, sys.executable, str(sender)]
        done = subprocess.run(
            [*command, SENDER, CLIENT, str(rate), str(seconds)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        sent = json.loads(done.stdout)
        wait_until(lambda: sum(related_and_lost(run.stats())) >= sent["sent"], "the last of them")
        stats = run.stats()
    related, lost = related_and_lost(stats)
    with capsys.disabled():
        sys.stdout.write(f"\nsent {sent}, related {related}, lost in the ring {lost}, cache {stats['cache']}\n")
    assert sent["sent"] == rate * seconds
    assert related >= 0.99 * sent["sent"]
    assert stats["lost"]["total"] == lost


def related_and_lost(stats: dict) -> tuple[int, int]:
    """Return the responses in the image, and the events that the probe lost."""
    counters = next(iter(stats["probes"].values()), {})
    return stats["image"].get("related", 0), counters.get("ring_full", 0) + counters.get("unreadable", 0)
