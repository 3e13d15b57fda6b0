"""Community ID against the package of its authors."""

from __future__ import annotations

import communityid
from hypothesis import given
from hypothesis import strategies as st

from dnstrail_probe.packets.connection_args import community_id

ports = st.integers(0, 65535)
pairs = st.sampled_from([4, 16]).flatmap(
    lambda size: st.tuples(*[st.tuples(st.binary(min_size=size, max_size=size), ports)] * 2)
)


@given(st.sampled_from(["tcp", "udp"]), pairs)
def test_ids_are_those_of_the_reference(transport, pair):
    """The id of any flow is the id that the reference implementation gives, in both directions."""
    (source, source_port), (destination, destination_port) = pair
    make = communityid.FlowTuple.make_tcp if transport == "tcp" else communityid.FlowTuple.make_udp
    expected = communityid.CommunityID().calc(make(source, destination, source_port, destination_port))
    assert community_id(transport, source, source_port, destination, destination_port) == expected
    assert community_id(transport, destination, destination_port, source, source_port) == expected
