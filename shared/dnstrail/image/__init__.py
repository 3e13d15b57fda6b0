"""The image: every relation that answers brought, each with its own life, and what a lookup over them means."""

from __future__ import annotations

from dnstrail.image.image import Applied, Image
from dnstrail.image.lookup import Found
from dnstrail.image.relation import Kind, Relation
from dnstrail.image.store import Bounds
from dnstrail.image.trail import Step, Trail

__all__ = ["Applied", "Bounds", "Found", "Image", "Kind", "Relation", "Step", "Trail"]
