"""The specifications of all events: what they state is unique and complete, and the image knows their effects.

Tests of dnstrail.events.connections, dnstrail.events.packets, dnstrail.events.specification.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

from dnstrail import events
from dnstrail.events import DERIVED, EVENTS, NAMES, PUBLISHED, SPECIFICATIONS
from dnstrail.image import apply


def test_names_ids_and_fields_are_unique():
    """No two events share a name or an id, and no event has two fields of one name."""
    assert len(EVENTS) == len({one.id for one in SPECIFICATIONS}) == len(SPECIFICATIONS)
    for one in SPECIFICATIONS:
        assert [name for name, count in Counter(field.name for field in one.fields).items() if count > 1] == []


def test_every_event_has_a_constant_that_can_be_imported():
    """The constant of an event is its name in upper case, and is exported from dnstrail.events."""
    assert {name: getattr(events, name.upper()) for name in NAMES} == {name: name for name in NAMES}


def test_every_event_is_published_or_derived():
    """Each event is a topic of the bus, or is derived from one and has no effect of its own."""
    assert {*PUBLISHED} | {*DERIVED} == {*EVENTS}
    assert [name for name in DERIVED if EVENTS[name].effect] == []


def test_the_image_applies_each_effect():
    """The effects of the events are those of the image: none is unknown to it, and it has none that no event has."""
    assert {one.effect for one in SPECIFICATIONS if one.effect} == {*apply.EFFECTS}


def test_every_event_and_field_is_described():
    """Each event states its family, its emitter and its meaning, and each field its type and its meaning."""
    for one in SPECIFICATIONS:
        assert all((one.family, one.emitter, one.words)), one.name
        assert all(field.type and field.meaning for field in one.fields), one.name


def test_the_specifications_load_no_parser():
    """Whoever imports names of events, as probes and clients do, loads neither dnspython's messages nor `Event`."""
    code = (
        "import sys, dnstrail.events as events; before = {*sys.modules};"
        "print({'dns.message', 'dnstrail.events.event'} & before, events.Event.__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "set() Event\n"
