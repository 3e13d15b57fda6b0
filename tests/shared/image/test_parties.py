"""The party and the owner of a packet."""

from __future__ import annotations

import pytest

from builders.talk import ADDRESSED, OWN
from dnstrail.captured import Flow, Process
from dnstrail.image import Circumstances
from dnstrail.image.parties import owner_of, party_of


@pytest.mark.parametrize(
    ("flow", "process", "party", "owner"),
    [
        (OWN, Process(1, cgroup_id=5, owner=4), ("h", "cgroup", 5), ("h", "cgroup", 4)),
        (OWN, Process(1, cgroup_id=5), ("h", "cgroup", 5), ("h", "cgroup", 5)),
        (OWN, Process(1, owner=4), ("h", "namespace", 1), ("h", "namespace", 1)),
        (OWN, None, ("h", "namespace", 1), ("h", "namespace", 1)),
        (ADDRESSED, None, ("h", "", 0), ("h", "", 0)),
        (None, None, ("h", "", 0), ("h", "", 0)),
    ],
)
def test_party_and_owner(flow: Flow | None, process: Process | None, party: object, owner: object) -> None:
    """A party is a cgroup, else a network namespace, else a host; its owner is that of the cgroup, else itself."""
    circumstances = Circumstances(flow, process, host="h")
    assert party_of(circumstances, flow) == party
    assert owner_of(circumstances, flow) == owner
