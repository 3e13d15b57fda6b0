"""Service bindings against dnspython: valid parameters, and the fields that are read."""

from __future__ import annotations

import dns.exception
import dns.rdata
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builders.hostile import ONE
from dnstrail.dns import ServiceBinding
from dnstrail.dns.service_binding import MAX_HINTS, read_service_binding
from model.by_dnspython import target_of

SIX = bytes(range(16))


def parameter(key: int, value: bytes, length: int | None = None) -> bytes:
    return key.to_bytes(2) + (len(value) if length is None else length).to_bytes(2) + value


VALUES = {
    0: [b"\0\1", b"\0\1\0\3", b"\0\3\0\1", b"\0\1\0\1", b"\0\0", b"\0\4", b"\0\1\0", b"\0\1\xff\0", b""],
    1: [b"\2h2", b"\2h2\2h3", b"\0", b"\2h2\0", b"\3h2", b""],
    2: [b"", b"x"],
    3: [b"\1\xbb", b"\1", b"\1\xbb\0", b""],
    4: [ONE, ONE * 2, ONE[1:], b""],
    5: [b"\0\4abcd", b"\0\3abc", b"\0\5abcd", b"\0\4abcde", b""],
    6: [SIX, bytes(10) + b"\xff\xff" + ONE, SIX[1:], ONE, b""],
    7: [b"/q{?dns}", b"\xff", b""],
    8: [b"", b"x"],
    9: [b"x", b""],
    10: [b"", b"\1a", b"\1a\2bc", b"\0", b"\2a"],
    65535: [b"x", b""],
}
one_parameter = st.sampled_from(sorted(VALUES)).flatmap(
    lambda key: st.tuples(st.just(key), st.sampled_from(VALUES[key]))
)
in_order = st.lists(one_parameter, max_size=6, unique_by=lambda pair: pair[0]).map(sorted)
parameters = st.one_of(in_order, in_order, st.lists(one_parameter, max_size=4)).map(
    lambda pairs: b"".join(parameter(*pair) for pair in pairs)
)
rdatas = st.tuples(
    st.sampled_from([b"\0\0", b"\0\1", b"\0\1", b"\xff\xff"]),
    st.sampled_from([b"\0", b"\1A\3com\0", b"\2.\xff\0", b"\xc0\0", b"\1a\xc0\0", b"\x40\0", b""]),
    parameters,
    st.sampled_from([b"", b"", b"", b"\0", b"\0\3\0", b"\xff\xff\0\1"]),
).map(b"".join)


def read_both(rdata: bytes) -> tuple[ServiceBinding | None, ServiceBinding | None]:
    """Return an RDATA as read by us and by dnspython, None where refused. A name before it can be pointed to."""
    wire = b"\0" + rdata + b"\0behind"
    end = 1 + len(rdata)
    ours = read_service_binding(wire, 1, end, {})
    try:
        theirs = target_of(dns.rdata.from_wire("IN", "SVCB", wire, 1, len(rdata)))
    except (dns.exception.DNSException, ValueError):
        theirs = None
    return ours, theirs


@given(st.one_of(rdatas, st.binary(max_size=40)))
@example(b"\0\1\0" + parameter(0, b"\0\1\0\3") + parameter(1, b"\2h2") + parameter(3, b"\1\xbb"))
@example(b"\0\1\0" + parameter(1, b"\2h2") + parameter(2, b""))
@example(b"\0\1\0" + parameter(4, ONE) + parameter(4, ONE))
@example(b"\0\0\0" + parameter(4, ONE))
@example(b"\0\1\0" + parameter(4, ONE, length=5))
def test_a_service_binding_is_what_dnspython_reads(rdata: bytes) -> None:
    """Any RDATA is read as dnspython reads it, or refused as dnspython refuses it."""
    ours, theirs = read_both(rdata)
    assert ours == theirs


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in VALUES.items() for value in values])
def test_a_parameter_has_the_values_that_dnspython_takes(key: int, value: bytes) -> None:
    """A parameter's value is accepted if dnspython accepts it, alone or beside other parameters."""
    alone = parameter(key, value)
    beside = {1: b"\2h2", 3: b"\1\xbb"} | {key: value}
    for rdata in (alone, b"".join(parameter(*pair) for pair in sorted(beside.items()))):
        ours, theirs = read_both(b"\0\1\0" + rdata)
        assert ours == theirs


@pytest.mark.parametrize(
    ("values", "hints"),
    [
        ([], ()),
        ([(4, ONE * 2), (6, bytes(10) + b"\xff\xff" + ONE)], ("1.1.1.1",)),
        ([(1, b"\2h2"), (4, ONE), (6, SIX)], ("1.1.1.1", "1:203:405:607:809:a0b:c0d:e0f")),
        ([(6, bytes(10) + b"\xff\xff" + ONE), (65280, b"x")], ("1.1.1.1",)),
    ],
)
def test_hints_are_read_in_their_order(values: list[tuple[int, bytes]], hints: tuple[str, ...]) -> None:
    """A service binding has its IPv4 hints, then its IPv6 hints, in canonical text, each once."""
    rdata = b"\0\1\1A\0" + b"".join(parameter(*value) for value in values)
    assert read_both(rdata) == (ServiceBinding("a", service_mode=True, hints=hints),) * 2


def test_hints_of_a_record_are_bounded() -> None:
    """The first different hints up to the bound are read, and the number of the others."""
    values = b"".join((number // 2).to_bytes(4) for number in range(2 * MAX_HINTS + 6))
    ours, theirs = read_both(b"\0\1\1A\0" + parameter(4, values))
    assert ours == theirs
    assert isinstance(ours, ServiceBinding)
    assert (len(set(ours.hints)), len(ours.hints), ours.more) == (MAX_HINTS, MAX_HINTS, 3)
