"""Names and addresses in their one form (docs/inside/image.md), and names on the wire (RFC 1035, 3.1 and 4.1.4)."""

from __future__ import annotations

import re
from functools import lru_cache
from socket import AF_INET6, inet_ntop, inet_pton
from typing import Final

import msgspec

ROOT: Final = "."
V4_MAPPED: Final = bytes(10) + b"\xff\xff"  # before an IPv4 address in IPv6 form (RFC 4291, section 2.5.5.2)
# Bytes that dnspython's text form of a label leaves as they are, without upper case.
PLAIN: Final = bytes(c for c in range(0x21, 0x7F) if c not in b'"().;\\@$' and not chr(c).isupper())
_ESCAPED: Final = [  # as in dnspython's text form, by the byte in lower case
    chr(c) if c in PLAIN else f"\\{chr(c)}" if c in b'"().;\\@$' else f"\\{c:03d}" for c in range(256)
]
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_USUAL_KEY: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")  # a name in our form, or an address
_MAX_LITERAL: Final = 45  # characters of an address (INET6_ADDRSTRLEN)
_ZONE: Final = re.compile(r"[^.]{0,15}|[^.]{1,13}\.\d{1,4}")  # an interface, also of a VLAN: no other has a dot
_MAX_TEXT: Final = 253  # characters of a name whose labels need no escapes (RFC 1035, section 2.3.4)
_V4_ZONE: Final = "in-addr.arpa"
_V6_ZONE: Final = "ip6.arpa"
_V4_SUFFIX: Final = f".{_V4_ZONE}"
_V6_SUFFIX: Final = f".{_V6_ZONE}"
_ARPA: Final = ".arpa"
_PACKED_LENGTHS: Final = (4, 16)
_NIBBLES: Final = frozenset("0123456789abcdef")
_DECIMAL: Final = [str(octet) for octet in range(256)]
_OCTETS: Final = frozenset(_DECIMAL)

MAX_NAME: Final = 255  # bytes on the wire, with the byte of the root
MAX_POINTERS: Final = 16  # in one name, as in dnspython
#: names of one message -> a record that leads to a further name is skipped: `bad_record`; a further owner ends the
#: message: `cut_short`
MAX_KNOWN: Final = 2048  # real messages have up to 20
POINTER: Final = 0xC000  # POINTER + offset is a pointer to the offset
POINTER_BYTE: Final = POINTER >> 8  # the least first byte of a pointer
_RESERVED: Final = 0x40  # the lowest byte that is no length of a label (RFC 1035, 4.1.4: 0x40 and 0x80 are reserved)

# Ordinary labels have nothing to escape, and at most 32 bytes: no length equals a character. One translation makes
# their text: the length of each label becomes the dot before it. Any other byte becomes one dot too many.
_LONGEST: Final = 32
_MAX_LABELS: Final = 127  # of one name
_DOTTED: Final = bytes(c if c in PLAIN else 0x2E for c in bytes(range(256)).lower())


def label_text(label: bytes) -> str:
    """Return a label as text: ASCII-lower-cased, with odd bytes and dots escaped as in dnspython's text form."""
    label = label.lower()
    if not label.translate(None, PLAIN):
        return label.decode("ascii")
    return "".join(map(_ESCAPED.__getitem__, label))


@lru_cache(maxsize=2048)
def packed_address_text(packed: bytes) -> str:
    """Return the canonical text (RFC 5952) of 4 or 16 packed bytes; IPv4-mapped IPv6 is written as IPv4."""
    if len(packed) == 4:
        return v4_text(packed)
    if packed.startswith(V4_MAPPED):
        return v4_text(packed[len(V4_MAPPED) :])
    text = inet_ntop(AF_INET6, packed)
    if "." in text:  # an IPv4-compatible address, which the C library writes with dots
        return f"::{packed[12] << 8 | packed[13]:x}:{packed[14] << 8 | packed[15]:x}"
    return text


def v4_text(packed: bytes) -> str:
    """Return the text of 4 packed bytes."""
    return f"{_DECIMAL[packed[0]]}.{_DECIMAL[packed[1]]}.{_DECIMAL[packed[2]]}.{_DECIMAL[packed[3]]}"


def known_address(packed: bytes) -> str:
    """Return a packed address as text; "" if it is all zero or no address, as sources write an unknown address."""
    return packed_address_text(packed) if any(packed) and len(packed) in _PACKED_LENGTHS else ""


def address_text(text: str) -> str | None:
    """Return the canonical text of an address literal, without brackets and zone; None for any other text."""
    if text[-1:] == "]" and text[0] == "[":
        text = text[1:-1]
    if ":" not in text and not text[-1:].isdigit():
        return None  # most names end here
    text, percent, zone = text.partition("%")
    if percent and not _ZONE.fullmatch(zone):
        return None  # a name like "::1%x.a.com", whose owner chose it
    return _literal(text) if len(text) <= _MAX_LITERAL else None


def is_reverse(name: str) -> bool:
    """Return whether a name in our form is in-addr.arpa, ip6.arpa, or lies below them."""
    if not name.endswith(_ARPA):
        return False  # most names end here
    return is_in_zone(name, _V4_ZONE) or is_in_zone(name, _V6_ZONE)


def is_in_zone(name: str, zone: str) -> bool:
    """Return whether a name is that of a zone or lies below it, both in our form."""
    if name == zone:
        return True
    if not name.endswith(f".{zone}"):
        return False
    label = name[: -len(zone) - 1]
    return (len(label) - len(label.rstrip("\\"))) % 2 == 0  # else its last dot is escaped: one of the label


def reverse_address(name: str) -> str | None:
    """Return the address that a reverse name in our form encodes (RFC 1035 3.5, RFC 3596 2.5), or None."""
    if name.endswith(_V4_SUFFIX):
        labels = name[: -len(_V4_SUFFIX)].split(".")
        if _are_octets(labels):
            return ".".join(reversed(labels))
        return None
    if name.endswith(_V6_SUFFIX):
        labels = name[: -len(_V6_SUFFIX)].split(".")
        if len(labels) == 32 and _NIBBLES.issuperset(labels):
            return packed_address_text(bytes.fromhex("".join(reversed(labels))))
    return None


def is_node(name: str) -> bool:
    """Return whether a name may be owner or target of a relation: it is no literal, reverse name or root."""
    if ":" not in name and name[-1:].isalpha():  # most names are no literals
        return not is_reverse(name)
    return name != ROOT and address_text(name) is None and not is_reverse(name)


def lookup_key(key: str) -> str | None:
    """Convert the key of a lookup to the form of the image; return None if it is neither a name nor an address.

    Accept addresses in any spelling (`[2606:4700::1]`, `::ffff:1.1.1.1`, ` 1.1.1.1`), reverse names, and names in any
    case, with a trailing dot, with dnspython's escapes, or in Unicode (IDNA).
    """
    if len(key) <= _MAX_TEXT and _USUAL_KEY.fullmatch(key) and not key[-1].isdigit() and not key.endswith(".arpa"):
        return key
    key = key.strip()
    if address := address_text(key):
        return address
    name = name_text(key)
    if name is None:
        return None
    if address := address_text(name):  # an address with a trailing dot
        return address
    if is_reverse(name):
        return reverse_address(name)
    return name or None


def name_text(key: str) -> str | None:
    """Convert a name in any spelling to our form, also a reverse one; return None if it is no name, "" for the root."""
    if len(key) <= _MAX_TEXT and _HOST_NAME.fullmatch(key):
        return key.removesuffix(".").lower()
    labels = _labels_of(key)
    return None if labels is None else ".".join(map(label_text, labels))


def _labels_of(key: str) -> tuple[bytes, ...] | None:
    """Return the labels of a name with dnspython's escapes or in Unicode, without the root; None if it is no name."""
    import dns.exception  # noqa: PLC0415 - few keys need dnspython
    import dns.name  # noqa: PLC0415 - as above

    try:
        try:
            name = dns.name.from_text(key, idna_codec=dns.name.IDNA_2008_UTS_46)
        except dns.name.IDNAException:  # symbols and emoji: IDNA 2003 allowed them, and registries still hold them
            name = dns.name.from_text(key, idna_codec=dns.name.IDNA_2003)
    except (dns.exception.DNSException, UnicodeError):
        return None
    return name.labels[:-1]


def _are_octets(labels: list[str]) -> bool:
    """Return whether labels are the four numbers of an IPv4 address."""
    return len(labels) == 4 and _OCTETS.issuperset(labels)


@lru_cache(maxsize=16384)
def _literal(text: str) -> str | None:
    if ":" not in text:
        return text if _are_octets(text.split(".")) else None
    try:
        return packed_address_text(inet_pton(AF_INET6, text))
    except (OSError, ValueError):
        return None


class Name(msgspec.Struct, frozen=True, gc=False):
    """The name at one offset: its text, its length on the wire, and the number of its pointers.

    `end` is the offset behind its first run of labels and the root or pointer that ends the run. `led` is the `end` of
    the name at that pointer. It never lies behind the start of the run: by this rule of dnspython every name ends.
    """

    text: str
    length: int
    end: int
    pointers: int = 0
    led: int = 0


Known = dict[int, Name | None]  # by offset, within one message; None: the bytes there are no name


def read_name(wire: bytes, start: int, end: int, known: Known) -> Name | None:
    """Read the name at `start`, whose first run of labels ends by `end`, and store it in `known`.

    Return None for bytes that are no name: a label of an unknown type, a bad pointer, an end behind `end`, or more than
    255 bytes. Return None, too, if `known` is full.

    Most names end in a pointer to a name that was read before, which `known` then holds.

    Example: offset 12 holds `01 61 03 63 6f 6d 00`, "a.com", with length 7 and end 19. Offset 40 holds
    `03 77 77 77 c0 0c`. The labels end at 44, where the pointer to 12 begins; `known` has "a.com" there, and the result
    is Name("www.a.com", length 11, end 46, pointers 1, led 19). Anything unusual (an odd byte, a loop, a bad label) is
    left to `_walk`, which reads label by label.
    """
    if len(known) >= MAX_KNOWN:
        return None
    at, text = ordinary_labels(wire, start, end)
    last = wire[at] if start <= at < end else _RESERVED
    if last == 0 and at - start < MAX_NAME:
        name = known[start] = Name(text or ROOT, at + 1 - start, at + 1)
        return name
    if last >= POINTER_BYTE and at + 1 < end:
        target = (last << 8 | wire[at + 1]) - POINTER
        rest = known.get(target) or _read_rest(wire, target, known)
        if rest and rest.end <= start and rest.pointers < MAX_POINTERS and at - start + rest.length <= MAX_NAME:
            if rest.length > 1:
                text = f"{text}.{rest.text}" if text else rest.text
            name = known[start] = Name(text or ROOT, at - start + rest.length, at + 2, rest.pointers + 1, rest.end)
            return name
    found = _walk(wire, start, known)
    return found if found is not None and found.end <= end else None


def ordinary_labels(wire: bytes, start: int, end: int) -> tuple[int, str]:
    """Return the offset behind the ordinary labels at `start`, and their text; -1 if one is odd, or crosses `end`."""
    at, count = start, 0
    while at < end and count < _MAX_LABELS:
        length = wire[at]
        if length == 0 or length > _LONGEST:
            break
        at += length + 1
        count += 1
    if at > end:
        return -1, ""
    text = wire[start:at].translate(_DOTTED).decode()
    return (at, text[1:]) if text.count(".") == count else (-1, "")


def _read_rest(wire: bytes, target: int, known: Known) -> Name | None:
    """Return the name at the target of a pointer that `known` does not hold; usually the rest of an ordinary name."""
    if target not in known and len(known) < MAX_KNOWN:
        at, text = ordinary_labels(wire, target, len(wire))
        if target < at < len(wire) and wire[at] == 0 and at - target < MAX_NAME:
            name = known[target] = Name(text, at + 1 - target, at + 1)
            return name
    return _walk(wire, target, known)


def _walk(wire: bytes, start: int, known: Known) -> Name | None:
    """Read the name at `start` label by label, and store the name at each of its labels and pointers in `known`.

    The name at an offset is the same for every caller, so nothing is walked twice: the work is linear in the message.
    """
    steps: list[tuple[int, bytes]] = []  # an offset and its label; b"" is a pointer
    at = start
    while at not in known and len(known) < MAX_KNOWN:
        known[at] = None  # until the name has ended; it stays None in a loop
        first = wire[at] if at < len(wire) else _RESERVED
        if first == 0:
            known[at] = Name(ROOT, 1, at + 1)
        elif first < _RESERVED:
            steps.append((at, wire[at + 1 : at + 1 + first]))
            at += 1 + first
        elif first >= POINTER_BYTE and at + 1 < len(wire):
            steps.append((at, b""))
            at = (first << 8 | wire[at + 1]) - POINTER
    rest = known.get(at)
    while rest and steps:
        at, label = steps.pop()
        rest = known[at] = _with_label(at, label, rest) if label else _by_pointer(at, rest)
    return rest


def _with_label(at: int, label: bytes, rest: Name) -> Name | None:
    length = 1 + len(label) + rest.length
    if length > MAX_NAME or rest.led > at:
        return None
    text = label_text(label) if rest.length == 1 else f"{label_text(label)}.{rest.text}"
    return Name(text, length, rest.end, rest.pointers, rest.led)


def _by_pointer(at: int, rest: Name) -> Name | None:
    if rest.end > at or rest.pointers >= MAX_POINTERS:
        return None
    return Name(rest.text, rest.length, at + 2, rest.pointers + 1, rest.end)
