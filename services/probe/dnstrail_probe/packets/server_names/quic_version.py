"""The versions of QUIC whose first packets can be read (RFC 9000; RFC 9369)."""

from __future__ import annotations

import msgspec

LEAST = 1200  # bytes of a datagram with an Initial packet of a client (RFC 9000, section 14.1)
_LONG_HEADER, _TYPE = 0xC0, 0x30


class Version(msgspec.Struct, frozen=True):
    """One version of QUIC: its salt, the prefix of its labels, and the type bits of an Initial packet."""

    salt: bytes
    prefix: bytes
    initial: int


_VERSIONS = {
    1: Version(bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"), b"quic ", 0x00),
    0x6B3343CF: Version(bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"), b"quicv2 ", 0x10),
}


def may_be_initial(datagram: bytes) -> bool:
    """Return true if a datagram can begin with an Initial packet of a client."""
    return len(datagram) >= LEAST and version_at(datagram, 0) is not None


def version_at(datagram: bytes, at: int) -> Version | None:
    """Return the version of the Initial packet that begins there; None if none of a known version does.

    Raises:
        IndexError: the datagram ends there.
    """
    first = datagram[at]
    version = _VERSIONS.get(int.from_bytes(datagram[at + 1 : at + 5]))
    is_initial = version is not None and first & (_LONG_HEADER | _TYPE) == _LONG_HEADER | version.initial
    return version if is_initial else None
