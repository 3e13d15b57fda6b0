"""The image: the answers that were seen, indexed, and the lookups over them (docs/inside/image.md)."""

from __future__ import annotations

from dnstrail.connection import Connection
from dnstrail.dns.rdata import Kind
from dnstrail.image.answer import Circumstances
from dnstrail.image.bounds import Bounds
from dnstrail.image.image import FeedOutcome, Image
from dnstrail.image.result import LookupResult
from dnstrail.image.trails.server_names import ServerNameSighting
from dnstrail.image.trails.trail import Step, Trail, Trails

__all__ = [
    "Bounds",
    "Circumstances",
    "Connection",
    "FeedOutcome",
    "Image",
    "Kind",
    "LookupResult",
    "ServerNameSighting",
    "Step",
    "Trail",
    "Trails",
]
