"""Tests of dnstrail_cli.enrich.formats, dnstrail_cli.enrich.mapping, dnstrail_cli.enrich.values."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.tool_events import CONTAINER, PORT, tool_events
from dnstrail.errors import SettingsError
from dnstrail.protocol.lookups import TrailManyRequest, decode_request, encode_request
from dnstrail_cli.enrich.formats import read_event
from dnstrail_cli.enrich.mapping import reader_of
from dnstrail_cli.enrich.values import container_of, port_of, process_of, time_of

SERVER, AT = "198.51.100.7", 1_793_534_405_123_456_789
MICROSECOND = 1000
EVENTS = tool_events(SERVER, AT)


@pytest.mark.parametrize("tool", EVENTS)
def test_the_connection_of_each_tool_is_read(tool):
    """An event of each tool states its server, port, client, process and container, with its time."""
    event, stated = EVENTS[tool]
    found = read_event(msgspec.json.decode(msgspec.json.encode(event)))
    assert found is not None
    at = found.pop("at_ns")
    assert found == {"address": SERVER, "port": PORT, **stated}
    assert AT <= at <= AT + MICROSECOND


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"output_fields": {"fd.name": "/etc/passwd", "proc.pid": 1}},
        {"output_fields": None},
        {"process_exec": {"process": {"pid": 1}}, "time": "2026-11-29T00:00:00Z"},
        {"process_kprobe": {"args": [{"sock_arg": 7}]}},
        {"dest_ip": "shop.example"},
        {"id.resp_h": ["192.0.2.1"]},
        {"args": {"name": "dst"}},
        {"args": [{"name": "dst"}, 7]},
        {"data": [{"name": "remote_addr", "value": {"sa_family": "AF_UNIX", "sun_path": "/x"}}]},
    ],
)
def test_an_event_without_a_connection_has_none(event):
    """An event of another kind, or with values of other types, states no connection."""
    assert read_event(event) is None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 1 << 63)
    | st.floats()
    | st.text(max_size=5)
    | st.datetimes().map(lambda time: time.isoformat())
    | st.just("192.0.2.1"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(tool=st.sampled_from(sorted(EVENTS)), data=st.data())
def test_a_cache_accepts_whatever_is_read(tool, data):
    """With any value at any place of an event, what is read from it is a request that no cache refuses."""
    event = msgspec.json.decode(msgspec.json.encode(EVENTS[tool][0]))
    place = event
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(JSON)
            break
        place = place[key]
    if (found := read_event(event)) is not None:
        request = decode_request(encode_request("trail_many", connections=[found]))
        assert isinstance(request, TrailManyRequest)


def test_a_map_reads_events_of_any_tool():
    """`--map` names where the values are: in maps, in lists, and under keys with dots."""
    read = reader_of(["address=to.0.ip", "port=to.0.port", "process=p.id", "time=when"])
    event = {"to": [{"ip": "2001:DB8::1", "port": "443"}], "p.id": 7, "when": 1_793_534_405.5}
    assert read(event) == {"address": "2001:db8::1", "port": 443, "process": 7, "at_ns": 1_793_534_405_500_000_999}
    assert read({"to": [], "p.id": 7}) is None
    assert read({"to": "x"}) is None


@pytest.mark.parametrize("values", [["port=x"], ["address"], ["address="], ["name=x"], ["address=x", "when=y"]])
def test_a_wrong_map_is_refused(values):
    """A value that is not FIELD=PATH, an unknown field, and a map without the address are refused."""
    with pytest.raises(SettingsError):
        reader_of(values)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-01T12:00:05.123456789Z", 1_793_534_405_123_456_789),
        ("2026-11-01T13:00:05.123456+0100", 1_793_534_405_123_456_999),
        ("2026-11-01 12:00:05", 1_793_534_405_999_999_999),
        (1_793_534_405, 1_793_534_405_999_999_999),
        (1_793_534_405.5, 1_793_534_405_500_000_999),
        (1_793_534_405_123, 1_793_534_405_123_999_999),
        (1_793_534_405_123_456, 1_793_534_405_123_456_999),
        (1_793_534_405_123_456_789, 1_793_534_405_123_456_789),
        (4_500_000_000_000, 4_500_000_000_000_999_999),
        (4_700_000_000_000, None),
        (4_700_000_000, None),
        ("9999-12-31T00:00:00Z", None),
        ("2200-01-01T00:00:00Z", None),
        ("1900-01-01T00:00:00Z", None),
        ("2026-13-01T12:00:05Z", None),
        ("yesterday", None),
        ("2026-11-01T12:00:05Z" + "0" * 100, None),
        (True, None),
        (-1, None),
        (1 << 70, None),
        (float("nan"), None),
        (None, None),
    ],
)
def test_a_time_stands_for_all_of_its_last_digit(value, expected):
    """A time is read to the end of its last digit: what was answered within it counts."""
    assert time_of(value) == expected


def test_a_part_of_an_id_is_no_container():
    """The first characters of an id, as Falco and Tetragon print them, would exclude the connection that is meant."""
    assert container_of(f"docker://{CONTAINER}") == container_of(CONTAINER) == CONTAINER
    assert [container_of(one) for one in (CONTAINER[:12], "host", "", 7, None)] == [None] * 5
    assert [port_of(one) for one in (0, 65536, "x", "443", True)] == [None, None, None, 443, None]
    assert process_of(1 << 32) is None
