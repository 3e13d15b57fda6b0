"""The keys of the packets that a QUIC client sends first (RFC 9001, section 5), computed by `cryptography`."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from dnstrail_probe.packets.server_names.quic_version import Version

SAMPLE = 16  # bytes of a sealed payload, from which the mask of its header is computed
_SECRET, _KEY, _NONCE = 32, 16, 12  # bytes
_HASH = hashes.SHA256()


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
