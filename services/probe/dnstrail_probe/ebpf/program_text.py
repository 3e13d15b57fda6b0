"""Assembles the source text of the programs: their parts, with the constants of this host written in."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).with_name("programs")
_TIERS = (128, 512, 4096, 16384, 65536)


@dataclass(frozen=True)
class Sizes:
    """The sizes of the ring buffer, in pages (a power of two), and of the maps, in entries."""

    #: pages of the ring buffer of the kernel (eBPF) -> `ring_full`: an owner that added more than is free loses its own
    #: events
    ring_pages: int = 8192
    #: open sockets with a known process (eBPF) -> an owner that has as many as are free gets no more: `owners_refused`
    owners: int = 65536
    losing_cgroups: int = 4096  # whose losses are counted; further losses count for other cgroups
    cgroups: int = 65536  # with a known owner, the least recently used evicted
    shares: int = 4096  # owners, the least recently used evicted
    relays: int = 4096  # ports at loopback addresses to which NAT can lead a question, the least recently used evicted


SIZES = Sizes()


def program_text(parts: Iterable[str], ports: Iterable[int], defines: Mapping[str, int], sizes: Sizes = SIZES) -> str:
    """Return the text of the parts, in their order, for these DNS ports."""
    named = {
        **defines,
        "RING_PAGES": sizes.ring_pages,
        "OWNERS": sizes.owners,
        "RING_BYTES": sizes.ring_pages * mmap.PAGESIZE,
        "LOSING_CGROUPS": sizes.losing_cgroups,
        "CGROUPS": sizes.cgroups,
        "SHARES": sizes.shares,
        "RELAYS": sizes.relays,
    }
    text = "".join(f"#define {name} {value}\n" for name, value in named.items())
    is_one = " || ".join(f"(port) == {port}" for port in sorted(ports))
    text += f"#define IS_DNS(port) ({is_one or 0})\n"
    return text + "".join(_write_out_tiers((_HERE / f"{part}.bpf.c").read_text()) for part in parts)


def _write_out_tiers(text: str) -> str:
    """Repeat the part between the TIER marks for each size."""
    before, _, rest = text.partition("// TIER\n")
    template, _, after = rest.partition("// END TIER\n")
    return before + "".join(template.replace("SIZE", str(size)) for size in _TIERS) + after
