"""Reassembles fragmented IP packets (RFC 791, section 3.2; RFC 8200, section 4.5; RFC 5722)."""

from __future__ import annotations

import struct
from bisect import bisect
from collections import Counter, OrderedDict

from msgspec.structs import replace

from dnstrail_probe.packets.packet import Fragment, IpPacket, upper_layer

#: ns to wait for a fragment -> the packet is dropped
TIMEOUT = 60 * 10**9
MAX_PACKETS = 4096  #: fragmented packets -> the oldest is evicted: `fragment_evicted`
#: bytes of all fragments -> the oldest is evicted: `fragment_evicted`
MAX_BYTES = 8 << 20  # with an overhead for each piece
_OVERHEAD = 64
_LARGEST = 65535
_UNIT = 8
_IPV6_ADDRESS = 16

_Key = tuple[bytes, bytes, int, int]


class _Pieces:
    """The pieces of one packet: disjoint, in order."""

    def __init__(self, now: int) -> None:
        self.since = now
        self.offsets: list[int] = []
        self.payloads: list[bytes] = []
        self.size = 0
        self.end = -1  # the end of the packet, known from its last piece
        self.protocol = -1  # known from its first piece
        self.dropped = False  # kept as an entry, so that later pieces of it start no new packet

    @property
    def held(self) -> int:
        return self.size + _OVERHEAD * len(self.offsets)

    @property
    def complete(self) -> bool:
        return self.size == self.end

    def refusal(self, start: int, payload: bytes, end: int, *, more: bool) -> str:
        """Return why a piece does not fit; "" if it fits."""
        place = bisect(self.offsets, start)
        before = self.offsets[place - 1] + len(self.payloads[place - 1]) if place else 0
        after = self.offsets[place] if place < len(self.offsets) else end
        last = self.offsets[-1] + len(self.payloads[-1]) if self.offsets else 0
        packet_end = self.end if more else end
        past_end = packet_end >= 0 and max(end, last) > packet_end
        other_end = not more and self.end not in (-1, end)
        if past_end or other_end:
            return "fragment_overlap"
        if self._has(start, payload):
            return "fragment_duplicate"
        return "fragment_overlap" if before > start or after < end else ""

    def insert(self, start: int, payload: bytes) -> None:
        place = bisect(self.offsets, start)
        self.offsets.insert(place, start)
        self.payloads.insert(place, payload)
        self.size += len(payload)

    def _has(self, start: int, payload: bytes) -> bool:
        """Return whether the same bytes have come already, in one piece or in several."""
        at, place = 0, bisect(self.offsets, start) - 1
        while at < len(payload):
            skipped = start + at - self.offsets[place] if 0 <= place < len(self.offsets) else -1
            known = self.payloads[place][skipped : skipped + len(payload) - at] if skipped >= 0 else b""
            if not known or payload[at : at + len(known)] != known:
                return False
            at, place = at + len(known), place + 1
        return True

    def drop(self) -> None:
        self.offsets, self.payloads, self.size, self.dropped = [], [], 0, True


class Fragments:
    """The incomplete packets: bounded in number, bytes and time. Every loss is counted by its reason."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._packets: OrderedDict[_Key, _Pieces] = OrderedDict()  # in the order of their first pieces
        self._now = 0
        self._held = 0

    def __len__(self) -> int:
        return len(self._packets)

    @property
    def held(self) -> int:
        """Bytes held, overhead included."""
        return self._held

    def add(self, packet: IpPacket, fragment: Fragment, now: int) -> IpPacket | None:
        """Return the whole packet if this fragment completes it; `now` is the stream's time in ns."""
        self._now = max(self._now, now)
        self.expire(self._now)
        self._counters["fragments"] += 1
        six = len(packet.source) == _IPV6_ADDRESS
        if fragment.more and not six and (odd := len(packet.payload) % _UNIT):  # which Linux cuts off
            packet = replace(packet, payload=packet.payload[:-odd])
        end = fragment.offset + len(packet.payload)
        if not packet.payload or end > _LARGEST or (fragment.more and end % _UNIT):
            self._counters["fragment_bad"] += 1
            return None
        # The pieces of an IPv6 packet may differ in their next header: that of the first piece counts.
        key = (packet.source, packet.destination, fragment.identification, 0 if six else packet.protocol)
        pieces = self._packets.get(key)
        if pieces is None:
            pieces = self._packets[key] = _Pieces(self._now)
        self._insert(pieces, packet, fragment, end)
        if pieces.complete and not pieces.dropped:
            self._forget(key)
            return self._whole(packet, pieces)
        self._bound()
        return None

    def expire(self, now: int) -> None:
        """Drop the packets that have waited too long."""
        while self._packets and now - next(iter(self._packets.values())).since > TIMEOUT:
            self._give_up("fragment_timeout")

    def finish(self) -> None:
        """Drop all packets at the end of the source."""
        while self._packets:
            self._give_up("fragment_incomplete")

    def _insert(self, pieces: _Pieces, packet: IpPacket, fragment: Fragment, end: int) -> None:
        if pieces.dropped:
            self._counters["fragment_overlap"] += 1
            return
        refusal = pieces.refusal(fragment.offset, packet.payload, end, more=fragment.more)
        if refusal:
            self._counters[refusal] += 1
        before = pieces.held
        if refusal == "fragment_overlap":
            pieces.drop()
        elif not refusal:
            pieces.insert(fragment.offset, packet.payload)
            pieces.end = pieces.end if fragment.more else end
            pieces.protocol = pieces.protocol if fragment.offset else packet.protocol
        self._held += pieces.held - before

    def _whole(self, packet: IpPacket, pieces: _Pieces) -> IpPacket | None:
        payload = b"".join(pieces.payloads)
        if len(packet.source) != _IPV6_ADDRESS:
            return IpPacket(packet.source, packet.destination, packet.protocol, payload)
        try:
            whole = IpPacket(packet.source, packet.destination, *upper_layer(pieces.protocol, payload))
        except struct.error:
            self._counters["header_cut"] += 1
            return None
        if whole.fragment is not None:  # a fragment within a fragment
            self._counters["fragment_bad"] += 1
            return None
        return whole

    def _bound(self) -> None:
        while len(self._packets) > MAX_PACKETS or self._held > MAX_BYTES:
            self._give_up("fragment_evicted")

    def _give_up(self, reason: str) -> None:
        key, pieces = next(iter(self._packets.items()))
        if not pieces.dropped:
            self._counters[reason] += 1
        self._forget(key)

    def _forget(self, key: _Key) -> None:
        self._held -= self._packets.pop(key).held
