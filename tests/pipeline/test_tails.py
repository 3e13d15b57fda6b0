"""Workers that end while others are busy: at every subscriber that is left, received and lost events add up."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from builders.capture_files import pcap
from builders.dnstap_builders import START, WHOLE, Writer, framed, tap
from dnstrail.bus.ipc import events_address, lookups_address
from dnstrail.events import NET_PACKET_DNS
from dnstrail.protocol.batches import TURN, Batch, decode
from live.counting import SIGNATURE
from live.processes import PATIENCE, metrics_port, run_dir, started, wait_until
from live.stopped import frozen
from live.workers import Asker, asker, open_bus, response

SENT = 3000
BUSY = 0.5  # seconds for which the other workers stand still
# A live probe that ends waits 2 s for them, which is too little on a host that is busy itself.
PATIENT = f"import dnstrail_probe.worker\ndnstrail_probe.worker.LINGER = {PATIENCE}"
OF_FILE = 3000
KILLED = (1, 2, 5, 10)  # messages of a file after which a subscriber is killed
WORKERS = ("probe", "cache", "signatures", "more-signatures")
RECEIVERS = WORKERS[1:]
VICTIMS = RECEIVERS[:2]
ENDS = (signal.SIGTERM, signal.SIGKILL)
Counted = dict[str, int]  # at one worker: events received and lost, and probes that vanished
VICTIM = """
import sys
from dnstrail.bus import ZmqBus
bus = ZmqBus()
subscriber = bus.subscriber([sys.argv[1]], ["net_packet_dns", "turn", "confirms"])
for _ in range(int(sys.argv[2])):
    while subscriber.receive() is None:
        bus.wait(subscriber, timeout=1)
print("in the middle", flush=True)
while True:
    bus.wait(subscriber, timeout=1)
"""


class Host:
    """A cache, two signature workers that count, and the live probe that they hear."""

    def __init__(self, folder: Path, workers: dict[str, subprocess.Popen[str]], client: Asker) -> None:
        self.folder = folder
        self.workers = workers
        self.client = client

    def publish(self) -> None:
        """Send all messages to the probe, and wait until it has published them."""
        messages = [response("a.com", "a.com 60 A 192.0.2.1", id_=number) for number in range(SENT)]
        published = 0
        with open_bus() as bus:
            subscriber = bus.subscriber([events_address(self.folder)], [NET_PACKET_DNS, TURN])
            wait_until(subscriber.receive, "the first turn: the subscription is in effect")
            resolver = Writer(self.folder / "dnstap.sock")
            resolver.send(START)
            for message in messages:
                resolver.send(framed(tap(**WHOLE, response_message=message)))
            while published < SENT:
                bus.wait(subscriber, timeout=BUSY)
                while (received := subscriber.receive()) is not None:
                    topic, body = received
                    published += len(decode(body, Batch).events) if topic == NET_PACKET_DNS else 0
            resolver.close()

    def end(self, worker: str, how: signal.Signals) -> None:
        """End a worker, and give it the time for which the others stand still."""
        self.workers[worker].send_signal(how)
        with suppress(subprocess.TimeoutExpired):
            self.workers[worker].wait(BUSY)

    def counted(self, worker: str, *, sent: int = SENT, vanished: bool = False) -> Counted:
        """Return the count of a receiver, once all that was sent, or the silence of the probe, has reached it."""
        if worker == "cache":
            if vanished:  # a moment after the status: the cache looks for silent probes ten times a second
                wait_until(lambda: counted_by_cache(self.client)["vanished"], "the probe has vanished")
            else:
                wait_until(lambda: self.client.ask("health")["data"]["status"] == "ended", "the end of the probe")
            return counted_by_cache(self.client)
        return counted_by_signatures(self.workers[worker], sent=sent, vanished=vanished)


@contextmanager
def host() -> Iterator[Host]:
    """Run a cache, two signature workers and a live probe."""
    with run_dir() as folder, asker(lookups_address(folder)) as client, listeners(folder) as workers:
        tapped = ["--capture", f"dnstap:{folder}/dnstap.sock", "--subscribers", str(len(RECEIVERS))]
        with started("probe", "--run-dir", folder, *tapped, before=PATIENT) as probe:
            wait_until(lambda: client.ask("health")["data"]["turns"], "the probe")
            yield Host(folder, {**workers, "probe": probe}, client)


@contextmanager
def listeners(folder: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Run a cache, and two signature workers that count."""
    signature = folder.parent / "counting.py"  # a run-dir contains sockets alone
    signature.write_text(SIGNATURE)
    counting = ["--signatures", signature, "--select", "COUNTED", "--cache", "none", "--metrics", "0"]
    with (
        started("cache", "--run-dir", folder, "--dnscache", "unmatched=accept") as cache,
        started("signatures", "--run-dir", folder, *counting) as one,
        started("signatures", "--run-dir", folder, *counting) as another,
    ):
        yield dict(zip(RECEIVERS, (cache, one, another), strict=True))


def counted_by_cache(client: Asker) -> Counted:
    """Return the count of the cache so far."""
    stats = client.ask("stats")["data"]
    lost = stats["lost"]["bus"].get(NET_PACKET_DNS, 0)
    vanished = stats["cache"].get("probes_vanished", 0)
    return {"received": stats["image"].get("messages", 0), "lost": lost, "vanished": vanished}


def counted_by_signatures(worker: subprocess.Popen[str], *, sent: int, vanished: bool = False) -> Counted:
    """End a signature worker once it has counted all, or has connected anew; return the count that it logs."""
    port = metrics_port(worker)
    log = (json.loads(line) for line in worker.stderr or ())
    if vanished:
        assert any(entry["event"] == "bus_reopened" for entry in log)
    else:
        wait_until(lambda: received_or_lost(port) >= sent, f"{sent} events, received or counted as lost")
    worker.terminate()
    last = next(entry for entry in log if entry["event"] == "stopped")
    lost = last["lost"].get(NET_PACKET_DNS, 0)
    return {"received": last.get("events", 0), "lost": lost, "vanished": last.get("reopened", 0)}


def received_or_lost(port: int) -> float:
    """Return how many events a signature worker has received or lost, by its metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as reply:
        families = text_string_to_metric_families(reply.read().decode())
    samples = [sample for family in families for sample in family.samples]
    received = (one.value for one in samples if one.labels.get("event") == NET_PACKET_DNS)
    return sum(received) + sum(one.value for one in samples if one.labels.get("hop") == "bus")


@functools.cache
def ended(victim: str, how: signal.Signals) -> dict[str, Counted]:
    """End a worker while the receivers stand still, and the probe after it; return the counts of the receivers."""
    with host() as running:
        left = [worker for worker in RECEIVERS if worker != victim]
        with frozen(*(running.workers[worker].pid for worker in left)):
            running.publish()
            running.end(victim, how)
        if victim != "probe":
            running.end("probe", signal.SIGTERM)
        running.workers["probe"].wait(PATIENCE)
        vanished = (victim, how) == ("probe", signal.SIGKILL)
        return {worker: running.counted(worker, vanished=vanished) for worker in left}


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_a_live_probe_that_ends_waits_for_busy_receivers(receiver):
    """After SIGTERM every event that the probe published reaches each receiver, although it stood still."""
    counted = ended("probe", signal.SIGTERM)[receiver]
    assert counted == {"received": SENT, "lost": 0, "vanished": 0}, f"sent {SENT}; {receiver}: {counted}"


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_a_probe_that_is_killed_is_counted(receiver):
    """After SIGKILL nobody knows what a receiver missed, so each receiver counts that the probe vanished."""
    counted = ended("probe", signal.SIGKILL)[receiver]
    assert counted["vanished"] == 1, f"sent {SENT}; {receiver}: {counted}"
    assert counted["received"] + counted["lost"] <= SENT, f"sent {SENT}; {receiver}: {counted}"


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize(
    ("victim", "receiver"),
    [(victim, receiver) for victim in VICTIMS for receiver in RECEIVERS if receiver != victim],
)
def test_the_end_of_a_receiver_costs_the_others_nothing_uncounted(victim, receiver, how):
    """Each receiver that stood still while another one ended has received or counted all events of the probe."""
    counted = ended(victim, how)[receiver]
    assert counted["received"] + counted["lost"] == SENT, f"sent {SENT}; {receiver}: {counted}"
    assert not counted["vanished"]


def test_a_subscriber_that_is_killed_while_a_file_plays_costs_the_others_nothing(tmp_path):
    """Each of some files reaches all receivers whole, whenever one more subscriber is killed."""
    capture = tmp_path / "responses.pcap"
    capture.write_bytes(pcap(*[(number, 0, packet(number)) for number in range(OF_FILE)]))
    with run_dir() as folder, asker(lookups_address(folder)) as client, listeners(folder) as workers:
        for messages in KILLED:
            play_and_kill(folder, capture, messages)
        seen = Host(folder, workers, client)
        counted = {worker: seen.counted(worker, sent=len(KILLED) * OF_FILE) for worker in RECEIVERS}
    all_of_them = {"received": len(KILLED) * OF_FILE, "lost": 0, "vanished": 0}
    assert counted == dict.fromkeys(RECEIVERS, all_of_them), f"{len(KILLED)} files of {OF_FILE} packets: {counted}"


def play_and_kill(folder: Path, capture: Path, messages: int) -> None:
    """Play a file to the workers of a folder, and to one more that is killed after so many messages."""
    victim = [sys.executable, "-c", VICTIM, events_address(folder), str(messages)]
    with (
        subprocess.Popen(victim, stdout=subprocess.PIPE, text=True) as killed,
        started("probe", "--run-dir", folder, "--capture", capture, "--subscribers", str(len(WORKERS))) as probe,
    ):
        assert killed.stdout.readline()
        killed.kill()
        assert probe.wait(PATIENCE) == 0


def packet(number: int) -> bytes:
    """Return an Ethernet frame with a response to a client; each is different."""
    payload = response("a.com", "a.com 60 A 192.0.2.1", id_=number)
    udp = (53).to_bytes(2) + (40000).to_bytes(2) + (8 + len(payload)).to_bytes(2) + bytes(2) + payload
    ip = bytes.fromhex("4500") + (20 + len(udp)).to_bytes(2) + bytes(4) + bytes([64, 17, 0, 0])
    return bytes(12) + bytes.fromhex("0800") + ip + bytes([10, 0, 0, 2, 10, 0, 0, 1]) + udp
