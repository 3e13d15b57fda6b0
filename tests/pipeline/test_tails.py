"""Workers that end while others are busy: at every subscriber that is left, received and lost events add up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from builders.capture_files import pcap
from builders.dnstap_builders import START, WHOLE, Writer, framed, tap
from dnstrail.bus.ipc import events_address, lookups_address
from dnstrail.events import NET_PACKET_DNS
from dnstrail.protocol.batches import TURN, Batch, decode
from live.counting import SIGNATURE
from live.processes import run_dir, started, wait_until
from live.stopped import frozen
from live.workers import Asker, asker, open_bus, response

pytestmark = pytest.mark.timeout(120)
SENT = 3000
BUSY = 1.0  # seconds for which the other workers stand still
FILES, OF_FILE = 20, 3000
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
    """A cache, a signature worker that counts, and the live probe that both hear."""

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
            bus.wait(subscriber, timeout=BUSY)  # the subscription is in effect with the first turn
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
        """End a worker, and give it the second for which the others stand still."""
        self.workers[worker].send_signal(how)
        with suppress(subprocess.TimeoutExpired):
            self.workers[worker].wait(BUSY)

    def counted_by_cache(self) -> dict[str, int]:
        """Return what the cache received and lost."""
        stats = self.client.ask("stats")["data"]
        lost = stats["lost"]["bus"].get(NET_PACKET_DNS, 0)
        vanished = stats["cache"].get("probes_vanished", 0)
        return {"received": stats["image"].get("messages", 0), "lost": lost, "vanished": vanished}


@contextmanager
def host() -> Iterator[Host]:
    """Run a cache, a signature worker and a live probe."""
    with run_dir() as folder, asker(lookups_address(folder)) as client, listeners(folder) as workers:
        tapped = ["--capture", f"dnstap:{folder}/dnstap.sock", "--subscribers", "2"]
        with started("probe", "--run-dir", folder, *tapped) as probe:
            wait_until(lambda: client.ask("health")["data"]["turns"], "the probe")
            yield Host(folder, {**workers, "probe": probe}, client)


@contextmanager
def listeners(folder: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Run a cache, and a signature worker that counts."""
    signature = folder.parent / "counting.py"  # a run-dir contains sockets alone
    signature.write_text(SIGNATURE)
    counting = ["--signatures", signature, "--select", "COUNTED", "--no-cache"]
    with (
        started("cache", "--run-dir", folder, "--dnscache", "unmatched=accept") as cache,
        started("signatures", "--run-dir", folder, *counting) as signatures,
    ):
        yield {"cache": cache, "signatures": signatures}


def counted_by_signatures(worker: subprocess.Popen[str]) -> dict[str, int]:
    """End a signature worker; return what it received and lost, as it logs them."""
    worker.terminate()
    _, errors = worker.communicate(timeout=30)
    last = next(entry for entry in map(json.loads, errors.splitlines()) if entry["event"] == "stopped")
    return {"received": last.get("events", 0), "lost": last["lost"].get(NET_PACKET_DNS, 0)}


def add_up(counted: dict[str, int], sent: int = SENT) -> bool:
    """Whether what was received and lost adds up to what was sent."""
    return counted["received"] + counted["lost"] == sent


def test_a_live_probe_that_ends_waits_for_busy_subscribers():
    """After SIGTERM every event that the probe published reaches a cache and a signature worker that stood still."""
    with host() as running:
        cache, signatures = running.workers["cache"], running.workers["signatures"]
        with frozen(cache.pid, signatures.pid):
            running.publish()
            running.end("probe", signal.SIGTERM)
        wait_until(lambda: running.client.ask("health")["data"]["status"] == "ended", "the last turn")
        assert running.counted_by_cache() == {"received": SENT, "lost": 0, "vanished": 0}
        assert counted_by_signatures(signatures) == {"received": SENT, "lost": 0}


def test_a_probe_that_is_killed_is_counted():
    """After SIGKILL what the cache did not receive is unknown, and the probe is reported as vanished."""
    with host() as running:
        with frozen(running.workers["cache"].pid):
            running.publish()
            running.end("probe", signal.SIGKILL)
        wait_until(lambda: running.counted_by_cache()["vanished"] == 1, "the cache to miss the probe")
        counted = running.counted_by_cache()
        assert counted["received"] + counted["lost"] <= SENT
        assert running.client.ask("health")["data"]["status"] == "silent"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(("victim", "left"), [("cache", "signatures"), ("signatures", "cache")])
def test_the_end_of_one_subscriber_costs_the_other_nothing_uncounted(victim, left, how):
    """A subscriber that stood still while another one ended counts all events of the probe."""
    with host() as running:
        with frozen(running.workers[left].pid):
            running.publish()
            running.end(victim, how)
        running.end("probe", signal.SIGTERM)
        if left == "cache":
            wait_until(lambda: add_up(running.counted_by_cache()), "the cache to have counted all")
        else:
            assert add_up(counted_by_signatures(running.workers[left]))


def test_a_subscriber_that_is_killed_while_a_file_plays_costs_the_others_nothing(tmp_path):
    """Each of many files reaches the cache and the signature worker whole, whenever the third subscriber is killed."""
    capture = tmp_path / "responses.pcap"
    capture.write_bytes(pcap(*[(number, 0, packet(number)) for number in range(OF_FILE)]))
    with run_dir() as folder, asker(lookups_address(folder)) as client, listeners(folder) as workers:
        for number in range(FILES):
            play_and_kill(folder, capture, 1 + number % 10)
        seen = Host(folder, workers, client)
        wait_until(lambda: add_up(seen.counted_by_cache(), FILES * OF_FILE), "the cache to have counted all")
        assert client.ask("health")["data"]["status"] == "ended"
        assert seen.counted_by_cache()["lost"] == 0
        assert counted_by_signatures(workers["signatures"]) == {"received": FILES * OF_FILE, "lost": 0}


def play_and_kill(folder: Path, capture: Path, messages: int) -> None:
    """Play a file to the workers of a folder, and to one more that is killed after so many messages."""
    victim = [sys.executable, "-c", VICTIM, events_address(folder), str(messages)]
    with (
        subprocess.Popen(victim, stdout=subprocess.PIPE, text=True) as killed,
        started("probe", "--run-dir", folder, "--capture", capture, "--subscribers", "3") as probe,
    ):
        assert killed.stdout.readline()
        killed.kill()
        assert probe.wait(30) == 0


def packet(number: int) -> bytes:
    """Return an Ethernet frame with a response to a client; each is different."""
    payload = response("a.com", "a.com 60 A 192.0.2.1", id_=number)
    udp = (53).to_bytes(2) + (40000).to_bytes(2) + (8 + len(payload)).to_bytes(2) + bytes(2) + payload
    ip = bytes.fromhex("4500") + (20 + len(udp)).to_bytes(2) + bytes(4) + bytes([64, 17, 0, 0])
    return bytes(12) + bytes.fromhex("0800") + ip + bytes([10, 0, 0, 2, 10, 0, 0, 1]) + udp
