"""The arguments of a connection event by which it can be joined to a flow."""

from __future__ import annotations

from dnstrail.captured import Flow
from dnstrail_probe.packets.community_id import community_id


def connection_args(flow: Flow) -> dict[str, object]:
    """Return destination, socket and Community ID of a connection, as far as they are known."""
    args: dict[str, object] = {"dst": flow.destination_text, "dst_port": flow.destination_port}
    if flow.socket:
        args["socket"] = flow.socket
    if flow.source and flow.source_port:
        ends = flow.source, flow.source_port, flow.destination, flow.destination_port
        args["community_id"] = community_id(flow.transport, *ends)
    return args
