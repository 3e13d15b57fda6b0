"""Offsets of members in kernel structs, from the type information of the running kernel (BTF)."""

from __future__ import annotations

import struct
from pathlib import Path

from dnstrail.kernel.bpf import VMLINUX

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _CONST, _VOLATILE, _FUNC_PROTO = 1, 3, 4, 5, 6, 10, 9, 13
_VAR, _DATASEC, _DECL_TAG, _ENUM64 = 14, 15, 17, 19
# Bytes that follow the header of a type: a fixed number, or a number for each of its members.
_FIXED = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_EACH = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}

# Name in process.bpf.c -> struct and member.
_PROCESS_MEMBERS = {
    "TASK_REAL_PARENT": ("task_struct", "real_parent"),
    "TASK_PID": ("task_struct", "pid"),
    "TASK_TGID": ("task_struct", "tgid"),
    "TASK_LEADER": ("task_struct", "group_leader"),
    "TASK_COMM": ("task_struct", "comm"),
    "TASK_SIGNAL": ("task_struct", "signal"),
    "SIGNAL_LIVE": ("signal_struct", "live"),
    "TASK_EXIT_CODE": ("task_struct", "exit_code"),
    "TASK_START": ("task_struct", "start_boottime"),
    "TASK_NSPROXY": ("task_struct", "nsproxy"),
    "NSPROXY_MNT": ("nsproxy", "mnt_ns"),
    "TASK_THREAD_PID": ("task_struct", "thread_pid"),
    "PID_LEVEL": ("pid", "level"),
    "PID_NUMBERS": ("pid", "numbers"),
    "UPID_NS": ("upid", "ns"),
    "TASK_MM": ("task_struct", "mm"),
    "MM_EXE_FILE": ("mm_struct", "exe_file"),
    "FILE_PATH": ("file", "f_path"),
    "PATH_DENTRY": ("path", "dentry"),
    "PATH_MNT": ("path", "mnt"),
    "VFSMOUNT_ROOT": ("vfsmount", "mnt_root"),
    "MOUNT_MNT": ("mount", "mnt"),
    "MOUNT_PARENT": ("mount", "mnt_parent"),
    "MOUNT_POINT": ("mount", "mnt_mountpoint"),
    "DENTRY_PARENT": ("dentry", "d_parent"),
    "CGROUP_ROOT": ("cgroup", "root"),
    "CGROUP_NODE": ("cgroup", "kn"),
    "NODE_ID": ("kernfs_node", "id"),
    "ROOT_HIERARCHY": ("cgroup_root", "hierarchy_id"),
}


class Btf:
    """The struct types of one kernel, indexed by name; read once from the file.

    Raises:
        OSError: the kernel has no BTF (CONFIG_DEBUG_INFO_BTF), or the file cannot be read.
        ValueError: the file contains no BTF.
    """

    def __init__(self, path: Path = VMLINUX) -> None:
        self._data = path.read_bytes()
        magic, _, _, head, types, types_length, strings, _ = _HEADER.unpack_from(self._data)
        if magic != _MAGIC:
            raise ValueError(f"{path} contains no BTF of this byte order")
        self._strings = head + strings
        self._offsets = [0]  # by type id
        self._structs: dict[str, int] = {}
        self._index(head + types, head + types + types_length)

    def offset(self, name: str, member: str) -> int:
        """Return the offset of a member in a struct, in bytes. Members of anonymous members are found, too.

        Raises:
            KeyError: there is no such struct or member.
        """
        found = self._member(self._structs[name], member)
        if found is None:
            raise KeyError(f"{name}.{member}")
        return found

    def size(self, name: str) -> int:
        """Return the size of a struct in bytes.

        Raises:
            KeyError: there is no such struct.
        """
        _, _, size = _TYPE.unpack_from(self._data, self._offsets[self._structs[name]])
        return int(size)

    def _index(self, at: int, end: int) -> None:
        while at < end:
            name, info, _ = _TYPE.unpack_from(self._data, at)
            kind, members = info >> 24 & 31, info & 0xFFFF
            if kind == _STRUCT and name:
                self._structs.setdefault(self._string(name), len(self._offsets))
            self._offsets.append(at)
            at += _TYPE.size + _FIXED.get(kind, 0) + _EACH.get(kind, 0) * members

    def _member(self, type_id: int, member: str) -> int | None:
        at = self._offsets[type_id]
        _, info, _ = _TYPE.unpack_from(self._data, at)
        for place in range(info & 0xFFFF):
            name, of_type, bits = _TYPE.unpack_from(self._data, at + _TYPE.size * (1 + place))
            offset = (bits & 0xFFFFFF if info >> 31 else bits) // 8
            if name and self._string(name) == member:
                return int(offset)
            inner = None if name else self._anonymous(of_type, member)
            if inner is not None:
                return int(offset) + inner
        return None

    def _anonymous(self, type_id: int, member: str) -> int | None:
        kind, target = self._kind(type_id)
        while kind in (_CONST, _VOLATILE):
            type_id = target
            kind, target = self._kind(type_id)
        return self._member(type_id, member) if kind in (_STRUCT, _UNION) else None

    def _kind(self, type_id: int) -> tuple[int, int]:
        _, info, target = _TYPE.unpack_from(self._data, self._offsets[type_id])
        return info >> 24 & 31, target

    def _string(self, at: int) -> str:
        start = self._strings + at
        return self._data[start : self._data.index(b"\0", start)].decode()


def process_offsets(btf: Btf) -> dict[str, int]:
    """Return the offsets that process.bpf.c needs, by their names there.

    Raises:
        KeyError: this kernel lacks one of the members.
    """
    offsets = {name: btf.offset(*member) for name, member in _PROCESS_MEMBERS.items()}
    inode = btf.offset("ns_common", "inum")
    return offsets | {
        "DENTRY_NAME": btf.offset("dentry", "d_name") + btf.offset("qstr", "name"),
        "MNT_NAMESPACE_INUM": btf.offset("mnt_namespace", "ns") + inode,
        "PID_NAMESPACE_INUM": btf.offset("pid_namespace", "ns") + inode,
        "UPID_SIZE": btf.size("upid"),
    }


def socket_offsets(btf: Btf) -> dict[str, int]:
    """Return the offsets that results.bpf.c needs, by their names there.

    Raises:
        KeyError: this kernel lacks one of the members.
    """
    common = btf.offset("sock", "__sk_common")
    return {
        "SOCK_COOKIE": common + btf.offset("sock_common", "skc_cookie"),
        "SOCK_ERROR": btf.offset("sock", "sk_err"),
        "SOCK_SADDR": common + btf.offset("sock_common", "skc_rcv_saddr"),
        "SOCK_SADDR6": common + btf.offset("sock_common", "skc_v6_rcv_saddr"),
        "SOCK_SPORT": btf.offset("inet_sock", "inet_sport"),
    }


def byte_offsets(btf: Btf) -> dict[str, int]:
    """Return the offsets by which results.bpf.c counts the bytes of a connection; none if this kernel lacks one."""
    members = ("bytes_sent", "bytes_retrans", "bytes_received")
    try:
        offsets = {f"TCP_{member.upper()}": btf.offset("tcp_sock", member) for member in members}
        flags = btf.offset("sock", "__sk_common") + btf.offset("sock_common", "skc_flags")
        return offsets | {"TCP_SK_FLAGS": flags, "TCP_SK_PROTOCOL": btf.offset("sock", "sk_protocol")}
    except KeyError:
        return {}
