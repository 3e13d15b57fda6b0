from __future__ import annotations

import os
from pathlib import Path

import pytest

from dnstrail.bus import RemoteHost
from dnstrail.process import identity
from dnstrail.process.identity import host_identity
from dnstrail.protocol.batches import HostIdentity


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
    """The identity is the host name, the boot id, and the machine id, which is "" where it cannot be read."""
    path = tmp_path / "machine-id"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(identity, "_MACHINE_ID", path)
    booted = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert host_identity() == HostIdentity(os.uname().nodename, machine_id, boot_id=booted)
    assert booted


def test_the_start_of_a_probe_with_a_key_is_one_of_this_key():
    """Each start has an id of its own. Another host knows it as one of the key, without a change."""
    with_key, alone = HostIdentity(key="aa"), HostIdentity()
    first, second = with_key.new_start(), with_key.new_start()
    assert first != second
    assert RemoteHost("aa", "alpha").own(first) == first
    assert "." not in alone.new_start()
