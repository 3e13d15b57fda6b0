"""The rules of an allow list: the maps of the kernel, looked up as the kernel does, allow what the list allows."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnstrail.errors import SettingsError
from dnstrail_run.allow_list import parse_allow_list
from dnstrail_run.enforce.rules import MOST_NARROW, MOST_SETS, Rules, address_key, rules_of

LABELS = st.lists(st.sampled_from(["a", "b", "ab", "test"]), min_size=1, max_size=4).map(".".join)
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.1.1", "11.0.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"])
NETWORKS = st.sampled_from(["10.0.0.0/8", "10.0.0.0/24", "10.0.0.1", "0.0.0.0/0", "[::]/0", "[fd00::]/16", "[fd00::1]"])
PORTS = st.sets(st.integers(1, 4)).map(lambda ports: f":{','.join(map(str, ports))}" if ports else "")
ENTRIES = st.tuples(st.one_of(LABELS, LABELS.map("*.{}".format), NETWORKS), PORTS).map("".join)


def longest_prefix(table: dict[bytes, Any], key: bytes) -> Any:
    """Return the value of the longest prefix of a key, as a map of the type LPM_TRIE does; 0 if there is none."""
    found = {}
    for entry, value in table.items():
        length = int.from_bytes(entry[:4], "little")
        if _bits(entry[4:])[:length] == _bits(key)[:length]:
            found[length] = value
    return found[max(found)] if found else 0


def _bits(data: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in data)


def allows(rules: Rules, sets: int, port: int) -> bool:
    """Return whether the sets of a name or address contain a port, as the programs decide."""
    return bool(sets & (1 | rules.ports.get(port, 0)))


@given(st.lists(ENTRIES, max_size=8), LABELS, st.integers(1, 5))
def test_names_are_allowed_as_the_list_states(entries, name, port):
    """A name leads to the ports of all entries that contain it."""
    allowed = parse_allow_list("\n".join(entries))
    rules = rules_of(allowed)
    rule = longest_prefix(rules.names, (name[::-1].encode()).ljust(256, b"\0"))
    assert allows(rules, rule and rule.sets, port) == any(
        not ports or port in ports for ports in allowed.ports_of(name)
    )


@given(st.lists(ENTRIES, max_size=8), ADDRESSES, st.integers(1, 5))
def test_addresses_are_allowed_as_the_list_states(entries, address, port):
    """An address is allowed on the ports of all networks that contain it."""
    allowed = parse_allow_list("\n".join(entries))
    rules = rules_of(allowed)
    sets = longest_prefix(rules.networks, address_key(ip_address(address)))
    assert allows(rules, sets, port) == allowed.allows("", address, port)


def test_types_and_resolvers_of_a_name():
    """A name has the types and resolvers of all its entries; one without a resolver has the configured ones."""
    text = "a.test:80 TXT\n*.test resolver 192.0.2.1\nb.test srv MX resolver 192.0.2.2 resolver ::1\nc.test\n"
    rules = rules_of(parse_allow_list(text))
    found = {
        name: longest_prefix(rules.names, name[::-1].encode().ljust(256, b"\0"))
        for name in ("a.test", "x.test", "b.test", "c.test")
    }
    assert {name: (rule.types, rule.servers) for name, rule in found.items()} == {
        "a.test": (1 << 16, 0b11),
        "x.test": (0, 0b10),
        "b.test": (1 << 33 | 1 << 15, 0b1110),
        "c.test": (0, 0b11),
    }
    assert [*rules.servers.values()] == [0b10, 0b100, 0b1000]


def test_unchecked_ports_of_a_name():
    """The unchecked ports of a name are those of all its entries with the word, and no others."""
    rules = rules_of(parse_allow_list("a.test:22 unchecked\na.test:443\n*.test:25 unchecked\nb.test unchecked\n"))
    found = {
        name: longest_prefix(rules.names, name[::-1].encode().ljust(256, b"\0")).unchecked
        for name in ("a.test", "b.test")
    }
    checked = {name: {port for port in (22, 25, 443, 80) if not allows(rules, found[name], port)} for name in found}
    assert checked == {"a.test": {443, 80}, "b.test": set()}


def test_too_many_resolvers_of_names():
    """A list with more resolvers of single names than a mask has bits is refused."""
    lines = [f"n{number}.test resolver 192.0.2.{number}" for number in range(MOST_NARROW + 1)]
    assert len(rules_of(parse_allow_list("\n".join(lines[1:]))).servers) == MOST_NARROW
    with pytest.raises(SettingsError, match="63 resolvers of single names"):
        rules_of(parse_allow_list("\n".join(lines)))


def test_too_many_sets_of_ports():
    """A list with more sets of ports than a mask has bits is refused."""
    lines = [f"name{port}.test:{port}" for port in range(1, MOST_SETS + 1)]
    assert len(rules_of(parse_allow_list("\n".join(lines))).names) == MOST_SETS
    with pytest.raises(SettingsError, match="63 different sets"):
        rules_of(parse_allow_list("\n".join([*lines, "one.more.test:1,2"])))
