"""The image: every relation that answers brought, each with its own life, and what a lookup over them means."""

from __future__ import annotations

from dnstrail.image.image import Applied, Image
from dnstrail.image.lookup import Found
from dnstrail.image.rank import Connection
from dnstrail.image.relation import Kind, Relation
from dnstrail.image.server_names import Call
from dnstrail.image.store import Bounds
from dnstrail.image.trail import Step, Trail, Trails

__all__ = ["Applied", "Bounds", "Call", "Connection", "Found", "Image", "Kind", "Relation", "Step", "Trail", "Trails"]
