from __future__ import annotations

import pytest

from dnstrail.captured import CLIENT, FORWARDER, SERVER
from dnstrail_probe.host.askers import note_role
from dnstrail_probe.host.process_table import ProcessEntry

QUERY, RESPONSE = b"\0\x01\x01\0", b"\0\x01\x81\x80"


@pytest.mark.parametrize(
    ("egress", "to_server", "from_server", "payload", "client"),
    [
        (True, True, False, QUERY, True),
        (False, False, True, RESPONSE, True),
        (False, True, False, QUERY, False),
        (True, False, True, RESPONSE, False),
        (True, True, True, QUERY, True),
        (False, True, True, QUERY, False),
        (True, True, True, RESPONSE, False),
        (False, True, True, RESPONSE, True),
    ],
)
def test_which_end_a_packet_is_seen_at(egress, to_server, from_server, payload, client):
    """The ports decide which end is the client; if both are DNS ports, the message decides."""
    noted, role = note_role(None, payload, egress=egress, to_server=to_server, from_server=from_server)
    assert (noted, role) == (client, CLIENT if client else SERVER)


def test_process_that_answers_and_asks_is_a_forwarder():
    """A process that was server and client is a forwarder from then on."""
    life = ProcessEntry(7, 0)
    roles = [
        note_role(life, b"", egress=egress, to_server=True, from_server=False)[1] for egress in (False, True, False)
    ]
    assert roles == [SERVER, FORWARDER, FORWARDER]
