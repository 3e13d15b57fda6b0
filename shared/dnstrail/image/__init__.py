"""The image: every relation that answers brought, each with its own life, and what a lookup over them means."""

from __future__ import annotations

from dnstrail.connection import Connection
from dnstrail.image.image import FeedOutcome, Image
from dnstrail.image.lookup import LookupResult
from dnstrail.image.relation import Kind, Relation
from dnstrail.image.store import Bounds
from dnstrail.image.trails.server_names import ServerNameSighting
from dnstrail.image.trails.trail import Step, Trail, Trails

__all__ = [
    "Bounds",
    "Connection",
    "FeedOutcome",
    "Image",
    "Kind",
    "LookupResult",
    "Relation",
    "ServerNameSighting",
    "Step",
    "Trail",
    "Trails",
]
