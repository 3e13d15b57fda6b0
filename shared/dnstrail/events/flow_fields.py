"""The fields that the events of several families take from their packet, or from the cache."""

from __future__ import annotations

from dnstrail.events.specification import Field

SRC = Field("src", "const char*", "the address of the sender")
DST = Field("dst", "const char*", "the address of the receiver")
SRC_PORT = Field("src_port", "u16", "the port of the sender")
DST_PORT = Field("dst_port", "u16", "the port of the receiver")
METADATA = Field("metadata", "trace.PacketMetadata", "the direction of a live packet: 1 ingress, 2 egress")
ROLE = Field("role", "const char*", "the role of the process: client, server or forwarder")
ORIGINAL = (
    Field("original_dst", "const char*", "the address before NAT, if NAT changed the receiver"),
    Field("original_dst_port", "u16", "the port before NAT"),
)
