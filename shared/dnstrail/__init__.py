"""The vocabulary that every dnstrail worker shares: events, wire, image, bus, lookups, signatures, client."""

from __future__ import annotations

__version__ = "0.1.0"
