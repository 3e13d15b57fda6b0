"""The image: the relations that DNS answers state, each with its own life, and the lookups over them."""

from __future__ import annotations

from dnstrail.connection import Connection
from dnstrail.image.answer import Circumstances
from dnstrail.image.image import FeedOutcome, Image
from dnstrail.image.lookup import LookupResult
from dnstrail.image.relation import Kind, Relation
from dnstrail.image.store import Bounds
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
    "Relation",
    "ServerNameSighting",
    "Step",
    "Trail",
    "Trails",
]
