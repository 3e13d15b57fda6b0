"""The handshake bytes in the Initial packets of a QUIC client (RFC 9000, section 17.2.2; RFC 9001, section 5).

Anybody can read them: their keys follow from the connection id that stands in the packet.
"""

from __future__ import annotations

import re

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from dnstrail_probe.packets.server_names.quic_version import Version, version_at

SAMPLE = 16  # bytes of a sealed payload, from which the mask of its header is computed
_SECRET, _KEY, _NONCE = 32, 16, 12  # bytes
_HASH = hashes.SHA256()
_MOST_PACKETS = 4  # Initial packets of one datagram that are decrypted
_LONGEST_NUMBER = 4
_LONGEST_CONNECTION_ID = 20
#: frames of a first datagram of a QUIC client, and ranges of its acknowledgements -> `quic_unreadable`
FRAMES = 64  # as many as a ClientHello may have; PADDING and PING do not count
_ACK, _ACK_ECN, _CRYPTO = 2, 3, 6
_FRAME = re.compile(rb"[^\0\1]")  # the type of the next frame that is neither PADDING nor PING


class Undecryptable(Exception):
    """A packet that is no Initial packet of a client, or one whose keys come from another connection id."""


class InitialKeys:
    """The keys that follow from the connection id which a client chose for its server (RFC 9001, section 5.2)."""

    def __init__(self, connection_id: bytes, version: Version) -> None:
        extract = hmac.HMAC(version.salt, _HASH)
        extract.update(connection_id)
        secret = _expand(extract.finalize(), b"client in", _SECRET)
        self._iv = int.from_bytes(_expand(secret, version.prefix + b"iv", _NONCE))
        self._payload = AESGCM(_expand(secret, version.prefix + b"key", _KEY))
        mask_key = _expand(secret, version.prefix + b"hp", _KEY)
        self._header = Cipher(algorithms.AES(mask_key), modes.ECB())  # noqa: S305 - one block (RFC 9001, 5.4.3)

    def mask(self, sample: bytes) -> bytes:
        """Return the mask of a packet's header, 16 bytes (RFC 9001, section 5.4)."""
        return self._header.encryptor().update(sample)

    def open(self, number: int, sealed: bytes, header: bytes) -> bytes:
        """Return the payload of the packet of this number.

        Raises:
            Undecryptable: the packet was not sealed with these keys.
        """
        try:
            return self._payload.decrypt((self._iv ^ number).to_bytes(_NONCE), sealed, header)
        except InvalidTag:
            raise Undecryptable from None


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    """Return HKDF-Expand-Label without a context (RFC 8446, section 7.1)."""
    label = b"tls13 " + label
    return HKDFExpand(_HASH, length, length.to_bytes(2) + bytes([len(label)]) + label + b"\0").derive(secret)


class Initial(msgspec.Struct, frozen=True):
    """One Initial packet: the id that the client chose, and the handshake bytes of each frame with their offset.

    `frames` is None if the datagram has more than `FRAMES` up to the end of this packet.
    """

    connection_id: bytes
    frames: list[tuple[int, bytes]] | None


class _Packet(msgspec.Struct, frozen=True):
    """A protected packet, and the places in its datagram of its start, its number and its end."""

    connection_id: bytes
    start: int
    number: int
    end: int


def read_initials(datagram: bytes) -> list[Initial]:
    """Return the first Initial packets of a datagram.

    Raises:
        Undecryptable: one of them is malformed, or its keys do not open it.
    """
    found: list[Initial] = []
    at, budget = 0, FRAMES
    try:
        while at < len(datagram) and len(found) < _MOST_PACKETS and (version := version_at(datagram, at)):
            packet = _packet_at(datagram, at)
            frames, budget = _frames(_opened(datagram, packet, version), budget)
            found.append(Initial(packet.connection_id, frames if budget >= 0 else None))
            at = packet.end
    except IndexError:
        raise Undecryptable from None
    return found


def _packet_at(datagram: bytes, start: int) -> _Packet:
    at = start + 5
    size = datagram[at]
    connection_id = datagram[at + 1 : at + 1 + size]
    at += 1 + size
    at += 1 + datagram[at]  # the client's own id
    token, at = _integer(datagram, at)
    length, number = _integer(datagram, at + token)
    end = number + length
    if end > len(datagram) or length < _LONGEST_NUMBER + SAMPLE or size > _LONGEST_CONNECTION_ID:
        raise Undecryptable
    return _Packet(connection_id, start, number, end)


def _opened(datagram: bytes, packet: _Packet, version: Version) -> bytes:
    """Return the payload of a packet, whose header is protected, too (RFC 9001, section 5.4.1)."""
    keys = InitialKeys(packet.connection_id, version)
    sample = packet.number + _LONGEST_NUMBER
    mask = keys.mask(datagram[sample : sample + SAMPLE])
    first = datagram[packet.start] ^ (mask[0] & 0x0F)
    payload = packet.number + (first & 3) + 1
    number = bytes(a ^ b for a, b in zip(datagram[packet.number : payload], mask[1:], strict=False))
    header = bytes([first]) + datagram[packet.start + 1 : packet.number] + number
    return keys.open(int.from_bytes(number), datagram[payload : packet.end], header)


def _frames(payload: bytes, budget: int) -> tuple[list[tuple[int, bytes]], int]:
    """Return the CRYPTO frames of a packet, up to a frame that no Initial packet contains, and the rest of the budget.

    If the rest is negative, the packet has more frames.
    """
    found: list[tuple[int, bytes]] = []
    at = 0
    while budget >= 0 and (frame := _FRAME.search(payload, at)):
        kind, at = payload[frame.start()], frame.end()
        budget -= 1
        if kind == _CRYPTO:
            offset, at = _integer(payload, at)
            length, at = _integer(payload, at)
            if length:
                found.append((offset, payload[at : at + length]))
            at += length
        elif kind in (_ACK, _ACK_ECN):
            ranges, at = _after_ack(payload, at, ecn=kind == _ACK_ECN, most=budget)
            budget -= 1 + ranges
        else:
            break
    return found, budget


def _after_ack(payload: bytes, at: int, *, ecn: bool, most: int) -> tuple[int, int]:
    """Return the number of further ranges of an ACK frame, and the place behind it (RFC 9000, section 19.3).

    If there are more than `most`, the others are not read.
    """
    _, at = _integer(payload, at)  # the largest number
    _, at = _integer(payload, at)  # the delay
    ranges, at = _integer(payload, at)
    payload[at + 2 * ranges]  # an integer, and two of each range: past the end of the payload it raises
    for _ in range(1 + 2 * min(ranges, most) + (3 if ecn else 0)):
        _, at = _integer(payload, at)
    return ranges, at


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """Return an integer of variable length, and the place behind it (RFC 9000, section 16).

    Raises:
        IndexError: the data end before it does.
    """
    size = 1 << (data[at] >> 6)
    data[at + size - 1]
    return int.from_bytes(data[at : at + size]) & ((1 << (8 * size - 2)) - 1), at + size
