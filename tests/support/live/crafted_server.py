"""A server of DNS on a TUN device: a test writes each of its packets, and the client is a real socket behind it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from scapy.layers.inet import IP, TCP, UDP

from live.processes import PATIENCE

CLIENT, SERVER = "10.98.0.2", "10.98.0.1"
_CLONE_NEWNET, _TUNSETIFF, _TUN_NO_PI = 0x40000000, 0x400454CA, 0x1001
_ISN = 2**32 - 20  # the numbers of each stream wrap around
_ASK = """
import socket, sys
for line in sys.stdin:
    kind, query, patience = line.split()
    with socket.socket(socket.AF_INET, getattr(socket, kind)) as asking:
        asking.connect((sys.argv[1], 53))
        asking.sendall(bytes.fromhex(query))
        asking.settimeout(float(patience))
        read = b""
        try:
            while more := asking.recv(65536):
                read += more
                if kind == "SOCK_DGRAM":
                    break
        except OSError:
            pass
    print(read.hex(), flush=True)
"""
Packet = tuple[int, bytes, dict[str, Any]]  # the place of its first byte in the stream, its data, fields of its headers


class CraftedServer:
    """A client that asks over real sockets, and the packets that it receives."""

    def __init__(self, device: int, client: subprocess.Popen[str]) -> None:
        self._device = device
        self._client = client

    def over_tcp(
        self, query: bytes, packets: Iterable[Packet], greeting: bytes = b"", patience: float = PATIENCE
    ) -> bytes:
        """Answer a query with segments, then end the connection; return the bytes that the client read.

        `greeting` is the data of the SYN. The client waits for bytes for `patience` seconds at most.
        """
        return self._ask("SOCK_STREAM", query, patience, lambda: self._serve_tcp(list(packets), greeting))

    def over_udp(self, query: bytes, packets: Iterable[Packet], patience: float = PATIENCE) -> bytes:
        """Answer a query with datagrams; return the first one that the client read; `patience` as above."""
        return self._ask("SOCK_DGRAM", query, patience, lambda: self._serve_udp(packets))

    def _ask(self, kind: str, query: bytes, patience: float, serve: Any) -> bytes:
        serving = threading.Thread(target=serve)
        serving.start()
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write(f"{kind} {query.hex()} {patience}\n")
        self._client.stdin.flush()
        read = bytes.fromhex(self._client.stdout.readline())
        serving.join()
        return read

    def _receive(self, layer: Any) -> Any:
        """Return the next packet of the client with this layer; None if none comes."""
        while select.select([self._device], [], [], PATIENCE)[0]:
            raw = os.read(self._device, 65536)
            if raw[0] >> 4 == 4 and layer in (packet := IP(raw)):
                return packet[layer]
        return None

    def _serve_tcp(self, packets: list[Packet], greeting: bytes) -> None:
        end = max((place + len(data) for place, data, _ in packets), default=0)
        answered, port = False, 0
        while segment := self._receive(TCP):
            data = bytes(segment.payload)
            port = port or (segment.sport if segment.flags.S else 0)
            if segment.sport != port:
                continue  # of the connection before

            def send(place: int, data: bytes, *, to: Any = segment, shift: int = 0, **fields: Any) -> None:
                ack = (to.seq + len(bytes(to.payload)) + bool(to.flags.S or to.flags.F) + shift) % 2**32
                ip = {name: fields.pop(name) for name in ("options", "src", "ttl") if name in fields}
                tcp = {"flags": "PA", "window": 64000, "seq": (_ISN + 1 + place) % 2**32, "ack": ack, **fields}
                os.write(
                    self._device,
                    bytes(IP(**{"src": SERVER, "dst": CLIENT, **ip}) / TCP(sport=53, dport=to.sport, **tcp) / data),
                )

            if segment.flags.S:
                send(-1, greeting, flags="SA")
            elif segment.flags.F or segment.flags.R:
                send(end + 1, b"", flags="A")
                return
            elif data and not answered:
                answered = True
                for place, part, fields in packets:
                    send(place, part, **fields)
                send(end, b"", flags="FA")

    def _serve_udp(self, packets: Iterable[Packet]) -> None:
        asked = self._receive(UDP)
        for _, data, fields in packets:
            ip = {name: fields.pop(name) for name in ("options",) if name in fields}
            udp = UDP(sport=53, dport=asked.sport, **fields)
            os.write(self._device, bytes(IP(src=SERVER, dst=CLIENT, **ip) / udp / data))


@contextmanager
def crafted_server() -> Iterator[CraftedServer]:
    """Start a client in a namespace of its own, whose only neighbour is the test."""
    name = f"dtt{os.getpid()}"
    _ip("netns", "add", name)
    try:
        device = _device_within(name)
        try:
            _ip("-n", name, "addr", "add", f"{CLIENT}/24", "dev", "tun0")
            _ip("-n", name, "link", "set", "tun0", "up")
            command = ["ip", "netns", "exec", name, sys.executable, "-c", _ASK, SERVER]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
                yield CraftedServer(device, client)
                client.communicate(timeout=PATIENCE)
        finally:
            os.close(device)
    finally:
        _ip("netns", "del", name)


def _device_within(namespace: str) -> int:
    """Open a TUN device that is made in a namespace: a thread of its own enters it."""
    opened: list[int] = []

    def open_it() -> None:
        inside = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        ctypes.CDLL(None).setns(inside, _CLONE_NEWNET)
        os.close(inside)
        opened.append(os.open("/dev/net/tun", os.O_RDWR))
        fcntl.ioctl(opened[0], _TUNSETIFF, struct.pack("16sH", b"tun0", _TUN_NO_PI))

    thread = threading.Thread(target=open_it)
    thread.start()
    thread.join()
    return opened[0]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
