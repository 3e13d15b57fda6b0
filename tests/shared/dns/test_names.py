"""The one form of names and addresses."""

from __future__ import annotations

from ipaddress import IPv6Address

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnstrail.dns.names import address_text, is_node, is_reverse, label_text, lookup_key, packed_address_text

V6 = "2606:4700:10::6816:1f"
V6_REVERSE = "f.1.0.0.6.1.8.6.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.7.4.6.0.6.2.ip6.arpa"
MAPPED_REVERSE = "1.0.1.0.1.0.1.0.f.f.f.f." + "0." * 20 + "ip6.arpa"

SPELLINGS = {
    "a.com": ["a.com", "a.com.", "A.COM", "A.Com.", " a.com ", "\ta.com.\n", "\u00a0a.com", "\\097.com", "\\a.com"],
    "com": ["com", "COM."],
    "a_b-c.com": ["a_b-c.com", "A_B-C.COM."],
    "_dmarc.a.com": ["_DMARC.a.com"],
    "*.a.com": ["*.A.com."],
    "1.1.1.1": [
        "1.1.1.1",
        "1.1.1.1.",
        " 1.1.1.1",
        "1.1.1.1\n",
        "[1.1.1.1]",
        "1.1.1.1.in-addr.arpa",
        "1.1.1.1.IN-ADDR.ARPA.",
        "::ffff:1.1.1.1",
        "::FFFF:0101:0101",
        "[::ffff:1.1.1.1]",
        "0:0:0:0:0:ffff:1.1.1.1",
        MAPPED_REVERSE,
        "\uff11.\uff11.\uff11.\uff11",
    ],
    "1.2.3.4": ["4.3.2.1.in-addr.arpa", "4.3.2.1.in-addr.arpa.", "\\052.3.2.1.in-addr.arpa"],
    V6: [
        V6,
        V6.upper(),
        f"[{V6}]",
        f"[{V6.upper()}]",
        f"{V6}%eth0",
        f"[{V6}%eth0]",
        "2606:4700:0010:0:0:0:6816:001F",
        "2606:4700:10::104.22.0.31",
        V6_REVERSE,
        V6_REVERSE.upper() + ".",
    ],
    "::": ["::", "0:0:0:0:0:0:0:0", "[::]"],
    "fe80::1": ["fe80::1%eth0", "FE80::1%1", "[fe80::1%eth0]"],
    "xn--bcher-kva.example": [
        "b\u00fccher.example",
        "B\u00dcCHER.example.",
        "bu\u0308cher.example",
        "b\u00fccher\u3002example",
        "XN--BCHER-KVA.example",
    ],
    "xn--strae-oqa.de": ["stra\u00dfe.de", "STRA\u1e9eE.de"],
    "xn--i-7iq.ws": ["i\u2764.ws"],
    "xn--ls8h.la": ["\U0001f4a9.la", "\U0001f4a9.LA."],
    "a\\.b.com": ["a\\.b.com", "A\\.B.com.", "a\\046b.com"],
    "\\000\\010\\255.com": ["\\000\\010\\255.com"],
    "a\\032b.com": ["a\\032b.com", "a\\ b.com", "a b.com"],
    "\\@": ["\\@", "\\064."],
    "\\$a.com": ["$a.com", "\\$A.com"],
    "1.1.1": ["1.1.1", "1.1.1."],
    "1.1.1.256": ["1.1.1.256"],
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": ["ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%eth0"],
    "a." + "0" * 50 + "1": ["a." + "0" * 50 + "1"],
    "01.1.1.1": ["01.1.1.1"],
    "x" * 63 + ".com": ["x" * 63 + ".com", "X" * 63 + ".com."],
}
NOTHING = [
    "",
    " ",
    ".",
    " . ",
    "a..com",
    ".a.com",
    "a.com..",
    "\\120" * 64 + ".com",
    "*." + ".".join(["x" * 60] * 5),
    "\\",
    "\\1",
    "\\256.com",
    "\ud800.com",
    "\u00fc" * 80 + ".com",
    "in-addr.arpa",
    "ip6.arpa.",
    "IP6.ARPA",
    "1.in-addr.arpa",
    "3.2.1.in-addr.arpa",
    "5.4.3.2.1.in-addr.arpa",
    "256.3.2.1.in-addr.arpa",
    "04.3.2.1.in-addr.arpa",
    "a.3.2.1.in-addr.arpa",
    "4\\.3.2.1.in-addr.arpa",
    "4/30.3.2.1.in-addr.arpa",
    "0." * 31 + "ip6.arpa",
    "0." * 33 + "ip6.arpa",
    "g." + "0." * 31 + "ip6.arpa",
    "00." + "0." * 31 + "ip6.arpa",
    "b._dns-sd._udp.1.in-addr.arpa",
]


@pytest.mark.parametrize(
    ("spelling", "expected"), [(spelling, form) for form, spellings in SPELLINGS.items() for spelling in spellings]
)
def test_every_spelling_finds_its_node(spelling: str, expected: str) -> None:
    """A lookup key in any usual spelling is converted to the form of its name or address."""
    assert lookup_key(spelling) == expected


@pytest.mark.parametrize("key", NOTHING)
def test_what_can_be_no_node_has_no_key(key: str) -> None:
    """An invalid name, the root, and a reverse name without an address have no key."""
    assert lookup_key(key) is None


REVERSE_LABELS = [
    "0",
    "1",
    "9",
    "f",
    "255",
    "256",
    "in-addr",
    "arpa",
    "ip6",
    "IP6",
    "[1",
    "1]",
    "1%1",
    "::",
    "::ffff:1",
]
LABELS = st.text(
    st.sampled_from('aZ09-_*.\\[]%:/ @$"();\u00fc\u00df\u3002\uff11\u0130\u2764\x00\x7f\ud800'), max_size=6
)
TEXTS = st.one_of(
    st.text(max_size=80),
    st.text(st.sampled_from("aA019.:[]%\\ @\u00fc\u3002\uff0e"), max_size=20),
    st.lists(LABELS, max_size=8).map(".".join),
    st.lists(st.sampled_from(REVERSE_LABELS), max_size=8).map(".".join),
    st.ip_addresses().map(str),
    st.ip_addresses().map(lambda address: address.reverse_pointer.upper()),
    st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=5).map(
        lambda labels: dns.name.Name([*labels, b""]).to_text()
    ),
)


@given(TEXTS)
def test_a_lookup_key_is_a_fixed_point(text: str) -> None:
    """Any text gives no key, or a key that is its own key."""
    key = lookup_key(text)
    assert key is None or lookup_key(key) == key


@given(st.lists(st.binary(min_size=1, max_size=63), min_size=1, max_size=3))
def test_names_off_the_wire_are_found_by_their_text(labels: list[bytes]) -> None:
    """The text form of a name from the wire is its own key, whatever its bytes."""
    text = ".".join(map(label_text, labels))
    if is_node(text):
        assert lookup_key(text) == text
        assert lookup_key(dns.name.Name([*labels, b""]).to_text()) == text


@pytest.mark.parametrize("template", [b"%c", b"a%c", b"%cz", b"A%c-"], ids=["alone", "last", "first", "within"])
def test_label_text_is_dnspythons(template: bytes) -> None:
    """Every byte value in a label is written as dnspython writes it, lower-cased."""
    for value in range(256):
        label = template % value
        assert label_text(label) == dns.name.Name((label,)).canonicalize().to_text(), value


NODES = {
    "a.com": True,
    "com": True,
    "_sip._udp.a.com": True,
    "xn-addr.arpa": True,
    "arpa": True,
    "in-addr.arpa.com": True,
    "xin-addr.arpa": True,
    "in-addr\\.arpa": True,
    "x\\.in-addr.arpa": True,
    "x\\.ip6.arpa": True,
    "::1%x.a.com": True,
    "1.1.1.1%x.a.com": True,
    "::1%eth0.5.com": True,
    "x\\\\.in-addr.arpa": False,
    "fe80::1%eth0.5": False,
    "xip6.arpa": True,
    "1.1.1": True,
    "1.1.1.256": True,
    "1.1.1.1.1": True,
    ".": False,
    "1.1.1.1": False,
    "[1.1.1.1]": False,
    "::1": False,
    "::ffff:1.1.1.1": False,
    "fe80::1%eth0": False,
    "in-addr.arpa": False,
    "ip6.arpa": False,
    "1.in-addr.arpa": False,
    "4.3.2.1.in-addr.arpa": False,
    "b._dns-sd._udp.0.0.168.192.in-addr.arpa": False,
    V6_REVERSE: False,
}


@pytest.mark.parametrize(("name", "expected"), NODES.items())
def test_only_names_that_are_no_address_reverse_name_or_root_are_nodes(name: str, expected: bool) -> None:
    """Literals, reverse names and the root own no forward relation and are no target of any."""
    assert is_node(name) is expected


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (bytes([1, 2, 3, 4]), "1.2.3.4"),
        (bytes(10) + b"\xff\xff\x01\x02\x03\x04", "1.2.3.4"),
        (bytes(12) + b"\x01\x02\x03\x04", "::102:304"),
        (bytes.fromhex("20010db8000000000001000000000001"), "2001:db8::1:0:0:1"),
        (bytes.fromhex("20010db8000100010001000100010001"), "2001:db8:1:1:1:1:1:1"),
        (bytes(16), "::"),
    ],
)
def test_packed_addresses_have_canonical_text(packed: bytes, expected: str) -> None:
    """Packed addresses are written as in RFC 5952, IPv4-mapped IPv6 as IPv4."""
    assert packed_address_text(packed) == expected


@given(st.lists(st.sampled_from([b"\0\0", b"\0\1", b"\1\0", b"\xff\xff"]), min_size=8, max_size=8).map(b"".join))
def test_packed_addresses_with_many_zeros_have_the_text_of_the_standard_library(packed: bytes) -> None:
    """The C library writes some of them with dots; Python's text follows RFC 5952, which leaves this open."""
    address = IPv6Address(packed)
    assert packed_address_text(packed) == str(address.ipv4_mapped or address)


@given(st.ip_addresses())
def test_a_reverse_name_is_the_address_it_names(address) -> None:
    """The reverse name of any address is a reverse name, and encodes that address."""
    assert is_reverse(address.reverse_pointer)
    assert lookup_key(address.reverse_pointer) == address_text(str(address))
