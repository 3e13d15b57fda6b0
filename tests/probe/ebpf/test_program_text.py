from __future__ import annotations

import os
import re
from ipaddress import ip_address
from pathlib import Path

import pytest

from dnstrail.kernel.bpf import VMLINUX
from dnstrail.kernel.cgroups import cgroup_id, cgroups, find_cgroup2
from dnstrail_probe.ebpf import loader, records
from dnstrail_probe.ebpf.btf import Btf, byte_offsets, process_offsets, socket_offsets
from dnstrail_probe.ebpf.loader import program_text

PROGRAMS = Path(records.__file__).parent / "programs"
SIZES = {"u64": 8, "u32": 4, "s32": 4, "u16": 2, "u8": 1, "char": 1}


def size_of(struct: str, file: str) -> int:
    """Return the size of a struct of a program whose members are scalars and arrays, aligned without gaps."""
    body = re.search(rf"struct {struct} \{{(.*?)\n\}};", (PROGRAMS / file).read_text(), re.DOTALL)[1]
    size = 0
    for kind, members in re.findall(r"^ +(\w+) ([^;]+);", body, re.MULTILINE):
        for member in members.split(","):
            length = re.search(r"\[(\d+)\]", member)
            size += SIZES[kind] * (int(length[1]) if length else 1)
    return size


def test_ports_are_constants_of_the_programs():
    """The text compares with the ports, in order, one constant each."""
    text = program_text(["sockets"], {5353, 53}, {"SEES_NETNS": 1})
    assert "#define IS_DNS(port) ((port) == 53 || (port) == 5353)\n" in text
    assert text.startswith("#define SEES_NETNS 1\n")


def test_the_programs_call_no_method_of_a_table_that_debian_12_lacks():
    """The bcc 0.26 of Debian 12 cannot compile a call of ringbuf_query."""
    calls = {call for path in PROGRAMS.iterdir() for call in re.findall(r"\w\.(ringbuf_\w+)\(", path.read_text())}
    assert calls == {"ringbuf_reserve", "ringbuf_submit", "ringbuf_discard", "ringbuf_output"}


def test_every_size_has_a_send_of_its_own():
    """The part between the marks appears once for each size, without the marks."""
    text = program_text(["events", "sockets", "dns"], {53}, {})
    sizes = [int(size) for size in re.findall(r"^struct packet_(\d+) \{", text, re.MULTILINE)]
    assert sizes == sorted(sizes)
    assert all(size & (size - 1) == 0 for size in sizes)
    assert set(map(int, re.findall(r"send_(\d+)\(skb, head, offset", text))) == set(sizes)
    assert "TIER" not in text


@pytest.mark.parametrize(
    ("struct", "file", "size"),
    [
        ("packet", "sockets.bpf.c", records._PACKET.size),
        ("owner", "sockets.bpf.c", records._OWNER.size),
        ("place", "sockets.bpf.c", records._PLACE.size),
        ("relay_place", "sockets.bpf.c", records._RELAY_PLACE.size),
        ("process", "process.bpf.c", records._PROCESS.size),
    ],
)
def test_records_have_the_sizes_of_their_structs(struct, file, size):
    """A record has the size of the struct in the program, which has no gaps, and is a multiple of 8."""
    assert size_of(struct, file) == size
    assert size % 8 == 0


def test_a_path_is_joined_from_its_components():
    """Components come from the file upwards; a path that is too long or too deep is unknown."""
    head = b"\0" * records._PROCESS.size

    def parts(*names: bytes) -> bytes:
        return head + b"".join(name.ljust(records.PART, b"\0") for name in names)

    assert records.read_path(parts(b"dig", b"bin", b"usr", b""), 4) == "/usr/bin/dig"
    assert records.read_path(parts(b"dig", b"", b"bin", b""), 4) == "/bin/dig"
    assert records.read_path(parts(b"x" * (records.PART - 1)), 1) is None
    assert records.read_path(parts(b"a"), records.PARTS + 1) is None
    assert records.read_path(parts(b"a\xff"), 1) == "/a\\xff"


def test_kinds_are_those_of_the_programs():
    """Every kind of record has the number that the programs use."""
    kinds = re.findall(r"^ +([A-Z_]+) = (\d+),$", (PROGRAMS / "events.bpf.c").read_text(), re.MULTILINE)
    assert len(kinds) == records.DNS_CLOSED
    assert all(getattr(records, name) == int(number) for name, number in kinds)


def test_all_counters_of_the_programs_are_read():
    """User space reads as many counters as the map has, and each name has a place of its own."""
    names = re.search(r"enum counter \{(.*?) COUNTERS", (PROGRAMS / "events.bpf.c").read_text(), re.DOTALL)[1]
    assert names.count(",") == loader._PLACES
    assert max(loader._COUNTERS.values()) < loader._PLACES
    assert len({*loader._COUNTERS.values()}) == len(loader._COUNTERS)


def test_an_owner_is_packed_as_the_programs_read_it():
    """Keys and values of the maps have the sizes and the order of their structs."""
    owner = records.OwnerRecord(
        noted=1,
        netns=2,
        cgroup=3,
        charged=0,
        pid=4,
        tid=5,
        uid=6,
        meant_port=53,
        family=4,
        use=1,
        meant=ip_address("192.0.2.1").packed,
        comm=b"dig",
    )
    packed = records.pack_owner(owner)
    assert len(packed) == 80
    assert packed[32:36] == (4).to_bytes(4, "little")
    at = [records.pack_place(1, ip_address(one).packed, 17, 53) for one in ("192.0.2.1", "::ffff:192.0.2.1")]
    assert at[0] == at[1]
    assert len(at[0]) == 32
    assert len(records.pack_id(1)) == 8


@pytest.mark.skipif(not VMLINUX.exists(), reason="this kernel has no BTF")
def test_offsets_of_this_kernel():
    """The BTF of the kernel yields all offsets that the programs use, and no others."""
    btf = Btf()
    prefixes = "TASK|MM|FILE|PATH|VFSMOUNT|MOUNT|DENTRY|SIGNAL|CGROUP|ROOT|NODE|NSPROXY|PID|UPID|MNT"
    used = set(re.findall(rf"\b(?:{prefixes})_[A-Z_]+\b", (PROGRAMS / "process.bpf.c").read_text()))
    assert used - {"CGROUP_PATH", "CGROUP_MADE", "CGROUP_REMOVED"} == set(process_offsets(btf))
    used = set(re.findall(r"\bSOCK_[A-Z0-9]+\b", (PROGRAMS / "results.bpf.c").read_text()))
    assert used == set(socket_offsets(btf))
    used = set(re.findall(r"\bTCP_(?:BYTES|SK)_[A-Z]+\b", (PROGRAMS / "results.bpf.c").read_text()))
    assert used == set(byte_offsets(btf))
    with pytest.raises(KeyError):
        btf.offset("task_struct", "no_such_member")
    with pytest.raises(KeyError):
        btf.size("no_such_struct")


@pytest.mark.skipif(find_cgroup2() is None, reason="no cgroup2 is mounted here")
def test_cgroups_of_this_host():
    """Every cgroup has an id; the path of the root is "/"; a path outside has the id 0."""
    root = find_cgroup2()
    found = dict(cgroups(root))
    assert found[cgroup_id(root, "/")] == "/"
    assert cgroup_id(root, "/no/such/cgroup") == cgroup_id(root, "/../..") == 0


def test_any_name_of_a_cgroup_can_be_opened(tmp_path):
    """A user can name a cgroup with any bytes: its path leads to it."""
    made = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    made.mkdir()
    paths = dict(cgroups(str(tmp_path)))
    assert {os.fsencode(path) for path in paths.values()} == {b"/", b"/\xff"}
    assert cgroup_id(str(tmp_path), paths[made.stat().st_ino]) == made.stat().st_ino
