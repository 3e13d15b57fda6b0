"""The vocabulary that every dnstrail worker shares, and the names that the author of a signature or a client imports.

The names in `__all__` are imported from their modules on first use, so that `import dnstrail` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dnstrail.client import DnsDataSource, LookupClient
    from dnstrail.connection import Connection
    from dnstrail.errors import DataNotFound
    from dnstrail.events import Event
    from dnstrail.signature import EventSelector, Finding, Signature, SignatureMetadata

__version__ = "0.2.0"
__all__ = [
    "Connection",
    "DataNotFound",
    "DnsDataSource",
    "Event",
    "EventSelector",
    "Finding",
    "LookupClient",
    "Signature",
    "SignatureMetadata",
]

_MODULES = {
    "Connection": "connection",
    "DataNotFound": "errors",
    "DnsDataSource": "client",
    "Event": "events",
    "EventSelector": "signature",
    "Finding": "signature",
    "LookupClient": "client",
    "Signature": "signature",
    "SignatureMetadata": "signature",
}


def __getattr__(name: str) -> object:
    """Import one of the names of `__all__` from its module.

    Raises:
        AttributeError: The name is not one of them.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value
