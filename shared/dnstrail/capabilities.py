"""The capabilities that this process holds, capabilities(7)."""

from __future__ import annotations

from pathlib import Path

_BITS = {
    "CAP_CHOWN": 0,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
_IN_SYS_ADMIN = {"CAP_PERFMON", "CAP_BPF"}  # until Linux 5.8 they were a part of it, and it still holds them


def missing_capabilities(*names: str) -> list[str]:
    """Those of the capabilities named that are not in effect."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    effective = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    held = {name for name, bit in _BITS.items() if effective >> bit & 1}
    if "CAP_SYS_ADMIN" in held:
        held |= _IN_SYS_ADMIN
    return [name for name in names if name not in held]
