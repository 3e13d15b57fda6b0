"""Another host, as this host knows it: by the key of its worker."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

_DIGEST = 12  # bytes: nobody makes another key with the same digest
_DOT = "."  # is in no start id without a key


class RemoteHost(NamedTuple):
    """The worker of another host that holds a key.

    `key` is a digest of the public key. Everybody who knows the key computes the same one. `name` is the name that the
    operator of this host gave to the key.
    """

    key: str
    name: str

    def owns(self, start: str) -> bool:
        """Return whether a start id is one of this key."""
        return start.startswith(start_of(self.key, ""))

    def own(self, start: str) -> str:
        """Return the start id of a start that this key published: no other key has the same one."""
        return start if self.owns(start) else start_of(self.key, start)


def key_digest(public: str) -> str:
    """Return the digest of a public key."""
    return blake2b(public.encode(), digest_size=_DIGEST).hexdigest()


def key_of(start: str) -> str:
    """Return the digest of the key that a start id names; "" for a start of a probe without a key."""
    key, dot, _ = start.partition(_DOT)
    return key if dot else ""


def start_of(key: str, start: str) -> str:
    """Return the start id of a probe with a key, which is given by its digest."""
    return f"{key}{_DOT}{start}"
