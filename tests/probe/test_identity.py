from __future__ import annotations

import os

import pytest

from dnstrail_probe import identity
from dnstrail_probe.identity import HostIdentity, host_identity


@pytest.mark.parametrize(
    ("content", "machine_id"),
    [
        (b"0123456789abcdef0123456789abcdef\n", "0123456789abcdef0123456789abcdef"),
        (b"", ""),
        (b"\xff\xfe", ""),
        (b"x" * 5000, "x" * 32),
        (None, ""),
    ],
    ids=["present", "empty", "no text", "endless", "missing"],
)
def test_the_identity_of_this_host(tmp_path, monkeypatch, content, machine_id):
    """The identity is the host name and the machine id, which is "" where it cannot be read."""
    path = tmp_path / "machine-id"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(identity, "_MACHINE_ID", path)
    assert host_identity() == HostIdentity(os.uname().nodename, machine_id)
