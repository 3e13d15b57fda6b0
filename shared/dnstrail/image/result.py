"""The result of a lookup (docs/inside/image.md). It is not compiled: mypyc compares such values by identity."""

from __future__ import annotations

from typing import Any

import msgspec

STATES = LIVE, GRACE, EXPIRED = "live", "grace", "expired"  # of a relation, a trail, or a result


class LookupResult(msgspec.Struct, frozen=True, gc=False):
    """The result of a lookup; it contains only names and addresses that live relations connect with the key.

    The name of an open connection is contained even if its relations have ended: `state` is then "expired".
    `truncated` states that a bound left some out. `history` is False if the lookup is for a past time that the image
    does not remember wholly. `hosts` are the hosts that asked for `dns_root`; only a cache of several hosts names them.
    """

    ip_addresses: list[str]
    dns_queries: list[str]
    dns_root: str
    state: str = "live"
    truncated: bool = False
    history: bool = True
    hosts: list[str] | msgspec.UnsetType = msgspec.UNSET

    @property
    def fields(self) -> dict[str, Any]:
        """Return the fields of a reply."""
        return dict(msgspec.to_builtins(self))
