"""Events and findings as tracee writes them in JSON (types/trace/trace.go of its v0.22)."""

from __future__ import annotations

from dnstrail.tracee.derived import derived_events
from dnstrail.tracee.event_shape import event_map, finding_map, signature_ids

__all__ = ["derived_events", "event_map", "finding_map", "signature_ids"]
