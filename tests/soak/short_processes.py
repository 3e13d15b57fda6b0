"""An hour of processes that ask a name, connect to its address and exit: memory must stay flat."""

from __future__ import annotations

import gc
import socket
import struct
import sys
from collections.abc import Iterator

from memory import MINUTES, SECOND, START, answer, is_flat, new_image, resident

from dnstrail.captured import CLIENT, Captured, Flow, Process
from dnstrail.events import (
    EFFECTS,
    NET_PACKET_DNS,
    NET_TCP_CLOSE,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
    SCHED_PROCESS_FORK,
)
from dnstrail.image.apply import apply_event

RATE = 120  # processes a second
PIDS = 30_000  # the kernel gives a pid again after that many processes
OF_A_CGROUP = 100  # processes
OURS, RESOLVER = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 53])
SHELL = Process(999, "sh", "/bin/sh", 1, 0, thread_id=999, cgroup_id=1, start_time=1)
STEP = SECOND // 1000  # between two events of a process
GROWTH = 0.05  # of resident memory


def main() -> int:
    """Run without the collector, as the cache runs; return 1 if memory grew, or if a connection had no name."""
    gc.disable()
    print(f"\n{RATE} processes a second for {MINUTES} minutes of the stream: each asks, connects and exits")
    image = new_image()
    sizes = []
    unnamed = 0
    for minute in range(MINUTES):
        for number in range(minute * 60 * RATE, (minute + 1) * 60 * RATE):
            for topic, event in life(number):
                apply_event(image, EFFECTS.get(topic, ""), event, live=True)
                if topic == NET_TCP_CONNECT:
                    newest = next(iter(image.binder.bindings.to(event.args["dst"])))
                    unnamed += newest.name != f"www.n{number}.example.com"
            image.sweep(64)
        sizes.append(resident())
        if not (minute + 1) % 10:
            held = image.binder.waits.held, len(image.binder.bindings)
            print(f"{minute + 1:6} {sizes[-1] / 2**20:8.1f} MiB, questions and connections held {held}")
    print(f"  connections with another name, or none: {unnamed}")
    return 0 if is_flat("RSS", sizes, GROWTH) and not unnamed else 1


def life(number: int) -> Iterator[tuple[str, Captured]]:
    """Yield the events of one process."""
    stamp, pid = START + number * SECOND // RATE, 1000 + number % PIDS
    process = Process(
        pid, "curl", "/usr/bin/curl", 999, 0, thread_id=pid, cgroup_id=2 + number // OF_A_CGROUP, start_time=stamp
    )
    response = answer(number)
    port, cookie = 20_000 + number % 40_000, number * 2 + 1
    address = response[-4:]
    to = Flow(OURS, port, address, 443, "tcp", cookie + 1, 77)
    args = {"dst": socket.inet_ntoa(address), "dst_port": 443}
    query = struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, 0) + response[12 : response.index(b"\0", 12) + 5]
    asked = Flow(OURS, port, RESOLVER, 53, "udp", cookie, 77, True, RESOLVER, 53, CLIENT)
    answered = Flow(RESOLVER, 53, OURS, port, "udp", cookie, 77, False, b"", 0, CLIENT)
    events = (
        (SCHED_PROCESS_FORK, b"", None, SHELL, {"child_pid": pid}),
        (SCHED_PROCESS_EXEC, b"", None, process, {}),
        (NET_PACKET_DNS, query, asked, process, {}),
        (NET_PACKET_DNS, response, answered, process, {}),
        (NET_TCP_CONNECT, b"", to, process, args),
        (NET_TCP_CONNECT_RESULT, b"", to, process, {**args, "connected": True}),
        (NET_TCP_CLOSE, b"", to, process, {}),
        (SCHED_PROCESS_EXIT, b"", None, process, {}),
    )
    for place, (topic, payload, flow, actor, arguments) in enumerate(events):
        yield topic, Captured(stamp + place * STEP, payload, flow, actor, arguments)


if __name__ == "__main__":
    sys.exit(main())
