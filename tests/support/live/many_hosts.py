"""The publishers of many hosts, in a few processes: each has addresses, a start and a replay window of its own.

As a program it plays some of the hosts: it reads one JSON object for each command from stdin, and answers with another.
Keyed hosts publish over CURVE, each at an address of 127.0.0.0/8 with a key of its own.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import zmq

from dnstrail.bus import ZmqBus, relay
from dnstrail.bus.keys import _PUBLIC, CLIENTS, SERVERS, _certificate, allow, load_keys, new_pair
from dnstrail.bus.remote_host import key_digest, start_of
from dnstrail.captured import Captured, Flow
from dnstrail.events import NET_PACKET_DNS
from dnstrail.process.log import configure
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.batches import TURN, HostIdentity, Mark
from dnstrail.protocol.replay_window import ReplayWindow
from dnstrail.protocol.replays import replay_address
from dnstrail_probe.worker import _ON_REQUEST, HEARTBEAT
from live.workers import response

_CLIENT, _SERVER = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 53))  # the same private addresses on each host


_CENTRAL = "central"  # the folder with the keys of the subscribers
_PORT = 17001


def address_of(folder: Path, host: int, *, keyed: bool = False) -> str:
    """Return the address at which a host publishes."""
    return f"tcp://{_ip_of(host)}:{_PORT}" if keyed else f"ipc://{folder}/{host}.sock"


def _ip_of(host: int) -> str:
    return f"127.77.{host // 250}.{1 + host % 250}"


class Host:
    """A host whose probe is idle, or publishes some answers a second."""

    def __init__(self, bus: ZmqBus, folder: Path, number: int, hosts: int, key: str = "") -> None:
        self.number = number
        address = address_of(folder, number, keyed=bool(key))
        self.publisher = bus.publisher(address, lossless=False)
        self.replays = bus.server(replay_address(address))
        identity = HostIdentity(f"host{number}", f"{number:032x}")
        start = f"{os.getpid():x}-{number}"
        start = start_of(key_digest(key), start) if key else start
        self.batches = BatchPublisher(self.publisher, start, live=True, identity=identity)
        self.batches.window = ReplayWindow(self.batches.start)
        self._ended = time.monotonic() + number / hosts * HEARTBEAT
        self._due = self._ended
        self._sent = 0

    def step(self, rate: float) -> None:
        """Answer requests, and publish what is due: an answer, a heartbeat, or the turn that a subscriber waits for."""
        self.publisher.subscribers(TURN)  # lets the bus handle new subscriptions
        window, now = self.batches.window, time.monotonic()
        window.serve(self.replays)
        if rate and now >= self._due:
            self._due = max(self._due + 1 / rate, now)
            self.answer(f"n{self._sent}.host{self.number}.test")
        elif now - self._ended >= HEARTBEAT or (window.awaited and now - self._ended >= _ON_REQUEST):
            self.end_turn()

    def next_step(self, rate: float) -> float:
        """Return the time at which something is due."""
        if self.batches.window.awaited:
            return self._ended + _ON_REQUEST
        return min(self._due, self._ended + HEARTBEAT) if rate else self._ended + HEARTBEAT

    def answer(self, name: str, *, lost: bool = False) -> Mark:
        """Publish an answer in a turn of its own, or lose it on the bus; return its mark."""
        self._sent += 1
        flow = Flow(_SERVER, 53, _CLIENT, 40000)
        payload = response(name, f"{name} 60 A 192.0.2.{self._sent % 250}")
        mark = self.batches.start, self.batches.turn
        self.batches.add(NET_PACKET_DNS, Captured(time.time_ns(), payload, flow, processor=self._sent))
        self.end_turn(lost=lost)
        return mark

    def end_turn(self, *, lost: bool = False) -> None:
        """Publish the turn; a lost one without its batches."""
        self._ended = time.monotonic()
        self.batches.close_turn(time.time_ns(), Counter(), closed=self._ended)
        if lost:
            self.batches._outbox[:] = self.batches._outbox[-1:]
        self.publisher.subscribers(TURN)  # lets the bus handle new subscriptions
        while not self.batches.flush():
            pass


class _Schedule:
    """The times at which something is due at hosts: a step of all of them costs more than a hundredth of a second."""

    def __init__(self, hosts: dict[int, Host]) -> None:
        self._hosts = hosts
        self._times = dict.fromkeys(hosts, 0.0)
        self._heap = [(0.0, number) for number in hosts]

    @property
    def pause(self) -> float:
        """The seconds until the next time."""
        return max(self._heap[0][0] - time.monotonic(), 0)

    def due(self) -> Iterator[Host]:
        """Yield the hosts whose times have come, each once."""
        while self._heap and self._heap[0][0] <= time.monotonic():
            when, number = heapq.heappop(self._heap)
            if self._times[number] == when:
                yield self._hosts[number]

    def set(self, host: Host, when: float) -> None:
        """Set the time of a host."""
        self._times[host.number] = when
        heapq.heappush(self._heap, (when, host.number))


def play(folder: Path, numbers: range, hosts: int, *, keyed: bool) -> None:
    """Play some hosts until stdin ends. The keys of keyed ones are in the folder."""
    configure("probe")  # logs to stderr: stdout has the replies
    relay.MOST_OF_HOST = relay._SERVED_AT_ONCE = relay.MOST_CONNECTIONS  # the subscribers of all hosts have one address
    keys = {number: load_keys(folder / str(number)) for number in numbers} if keyed else {}
    bus, played = ZmqBus(keys.get(numbers.start)), {}
    for number in numbers:
        if keyed:
            bus._curve._keys = keys[number]  # one bus for all: a thousand of them would have a thousand processes
        played[number] = Host(bus, folder, number, hosts, keys[number].public if keyed else "")
    rate, poll = 0.0, select.epoll()
    ends = {
        int(end.socket.getsockopt(zmq.FD)): host for host in played.values() for end in (host.publisher, host.replays)
    }
    for descriptor in (sys.stdin.fileno(), *ends):
        poll.register(descriptor, select.EPOLLIN)
    schedule = _Schedule(played)
    _say({"bound": len(played)})
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(schedule.pause)}
        if sys.stdin.fileno() in ready:
            line = sys.stdin.buffer.raw.readline()
            if not line:
                break
            command = json.loads(line)
            if command.get("rate", rate) != rate:
                rate, schedule = command["rate"], _Schedule(played)
            _say(_done(played, command))
        for host in {*schedule.due()} | {ends[descriptor] for descriptor in ready if descriptor in ends}:
            host.step(rate)
            schedule.set(host, host.next_step(rate))
    os._exit(0)  # the buses of many hosts take long to close


def _say(reply: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


def _done(hosts: dict[int, Host], command: dict[str, Any]) -> dict[str, Any]:
    """Do what a command says; return the marks of the answers, and the state of the hosts."""
    marks = {
        number: hosts[number].answer(name, lost=command.get("lost", False))
        for number, name in command.get("answers", [])
    }
    return {
        "marks": marks,
        "subscribers": min(host.publisher.subscribers(TURN) for host in hosts.values()),
        "published": sum(host.batches.published.total() for host in hosts.values()),
        "turns": {host.batches.start: host.batches.turn - 1 for host in hosts.values()},
    }


class ManyHosts:
    """Many hosts, played by a few processes."""

    def __init__(self, folder: Path, count: int, processes: int, stack: ExitStack, *, keyed: bool = False) -> None:
        self.count = count
        self.addresses = [address_of(folder, number, keyed=keyed) for number in range(count)]
        self.environment = {"DNSTRAIL_KEYS": str(folder / _CENTRAL)} if keyed else {}
        if keyed:
            _make_keys(folder, count)
        self._played: list[tuple[range, subprocess.Popen[str]]] = []
        for number in range(processes):
            numbers = range(count * number // processes, count * (number + 1) // processes)
            range_ = map(str, (numbers.start, numbers.stop, count, int(keyed)))
            command = [sys.executable, __file__, str(folder), *range_]
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.callback(_end, process)
            self._played.append((numbers, process))
        for _, process in self._played:
            assert json.loads(process.stdout.readline())["bound"]

    @property
    def subscriptions(self) -> list[str]:
        """The options of a worker that follows all hosts."""
        return [f"--subscribe={address}" for address in self.addresses]

    def tell(self, **command: object) -> list[dict[str, Any]]:
        """Pass a command to all processes; return their replies."""
        return [self._ask(process, command) for _, process in self._played]

    def answer(self, answers: Iterable[tuple[int, str]], *, lost: bool = False) -> dict[int, Mark]:
        """Publish answers: names by host; return their marks by host."""
        wanted, marks = [*answers], {}
        for numbers, process in self._played:
            own = [answer for answer in wanted if answer[0] in numbers]
            if own:
                reply = self._ask(process, {"answers": own, "lost": lost})
                marks |= {int(host): (mark[0], mark[1]) for host, mark in reply["marks"].items()}
        return marks

    @property
    def subscribers(self) -> int:
        """The number of subscribers that each host has at least."""
        return min(reply["subscribers"] for reply in self.tell())

    @property
    def published(self) -> int:
        """The number of events that the hosts published."""
        return sum(reply["published"] for reply in self.tell())

    @staticmethod
    def _ask(process: subprocess.Popen[str], command: dict[str, Any]) -> dict[str, Any]:
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
        reply: dict[str, Any] = json.loads(process.stdout.readline())
        return reply


@contextmanager
def many_hosts(folder: Path, count: int, processes: int = 2, *, keyed: bool = False) -> Iterator[ManyHosts]:
    """Play many hosts whose sockets or keys are in a folder."""
    with ExitStack() as stack:
        yield ManyHosts(folder, count, processes, stack, keyed=keyed)


def _make_keys(folder: Path, count: int) -> None:
    """Make keys for each host and for the subscribers, which allow each other."""
    central = new_pair(folder / _CENTRAL)
    for number in range(count):
        own = new_pair(folder / str(number))
        allow(folder / str(number), CLIENTS, "central", central)
        file = folder / _CENTRAL / SERVERS / f"{_ip_of(number)}{_PUBLIC}"  # `allow` compares it with all others
        file.write_text(_certificate(own, host=f"host{number}"))


def _end(process: subprocess.Popen[str]) -> None:
    process.stdin.close()
    process.stdout.close()
    process.kill()
    process.wait()


if __name__ == "__main__":
    play(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3])), int(sys.argv[4]), keyed=sys.argv[5] == "1")
