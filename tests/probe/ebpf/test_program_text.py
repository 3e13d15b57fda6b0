from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path

import pytest

from dnstrail_probe.ebpf import records
from dnstrail_probe.ebpf.btf import VMLINUX, Btf, process_offsets, socket_offsets
from dnstrail_probe.ebpf.program_text import program_text
from dnstrail_probe.host.cgroups import cgroup_id, cgroups, find_cgroup2


def test_ports_are_constants_of_the_programs():
    """The ports are written into the text, in order, as one comparison each."""
    text = program_text(["sockets"], {5353, 53}, {"SEES_NETNS": 1})
    assert "#define IS_DNS(port) ((port) == 53 || (port) == 5353)\n" in text
    assert text.startswith("#define SEES_NETNS 1\n")


def test_every_size_has_a_send_of_its_own():
    """The part between the marks is written once for each size, and the marks are gone."""
    text = program_text(["events", "sockets", "dns"], {53}, {})
    sizes = [int(size) for size in re.findall(r"^struct packet_(\d+) \{", text, re.MULTILINE)]
    assert sizes == sorted(sizes)
    assert all(size & (size - 1) == 0 for size in sizes)
    assert set(map(int, re.findall(r"send_(\d+)\(skb, head, offset", text))) == set(sizes)
    assert "TIER" not in text


def test_path_is_put_together_from_its_parts():
    """The parts of a path come from the file up; one that was too long or too deep makes the path unknown."""
    head = b"\0" * 56

    def parts(*names: bytes) -> bytes:
        return head + b"".join(name.ljust(records.PART, b"\0") for name in names)

    assert records.read_path(parts(b"dig", b"bin", b"usr", b""), 4) == "/usr/bin/dig"
    assert records.read_path(parts(b"dig", b"", b"bin", b""), 4) == "/bin/dig"
    assert records.read_path(parts(b"x" * (records.PART - 1)), 1) is None
    assert records.read_path(parts(b"a"), records.PARTS + 1) is None
    assert records.read_path(parts(b"a\xff"), 1) == "/a\\xff"


def test_kinds_are_those_of_the_programs():
    """Every kind of record has the number that the programs give it."""
    kinds = re.findall(
        r"^ +([A-Z_]+) = (\d+),$",
        (Path(records.__file__).parent / "programs" / "events.bpf.c").read_text(),
        re.MULTILINE,
    )
    assert len(kinds) == records.RESOLVED
    assert all(getattr(records, name) == int(number) for name, number in kinds)


def test_owner_is_as_large_as_the_programs_say():
    """What is put into the maps has the size and the order of its struct."""
    owner = records.OwnerRecord(1, 2, 3, 4, 5, 6, 53, 4, 1, ip_address("192.0.2.1").packed, b"dig")
    packed = records.pack_owner(owner)
    assert len(packed) == 72
    assert packed[24:28] == (4).to_bytes(4, "little")
    assert len(records.pack_place(1, 17, 53)) == 16
    assert len(records.pack_cookie(1)) == 8


@pytest.mark.skipif(not VMLINUX.exists(), reason="this kernel has no BTF")
def test_offsets_of_this_kernel():
    """The kernel's own type information tells all offsets that the programs need."""
    offsets = process_offsets(Btf())
    source = (Path(records.__file__).parent / "programs" / "process.bpf.c").read_text()
    used = set(re.findall(r"\b(?:TASK|MM|FILE|PATH|VFSMOUNT|MOUNT|DENTRY|SIGNAL|CGROUP|ROOT|NODE)_[A-Z_]+\b", source))
    assert used - {"CGROUP_PATH", "CGROUP_MADE", "CGROUP_REMOVED"} == set(offsets)
    source = (Path(records.__file__).parent / "programs" / "results.bpf.c").read_text()
    assert set(re.findall(r"\bSOCK_[A-Z]+\b", source)) == set(socket_offsets(Btf()))
    with pytest.raises(KeyError):
        Btf().offset("task_struct", "no_such_member")


@pytest.mark.skipif(find_cgroup2() is None, reason="no cgroup2 is mounted here")
def test_cgroups_of_this_host():
    """Every cgroup has an id, and the root's path is "/"."""
    root = find_cgroup2()
    found = dict(cgroups(root))
    assert found[cgroup_id(root, "/")] == "/"
    assert cgroup_id(root, "/no/such/cgroup") == cgroup_id(root, "/../..") == 0
