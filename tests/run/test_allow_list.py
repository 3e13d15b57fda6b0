"""The allow list of `dnstrail run`: entries, comments, ports, and what is no entry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dnstrail.errors import SettingsError
from dnstrail_run.allow_list import MOST_INCLUDED, ListedName, group_names, group_text, parse_allow_list

LIST = parse_allow_list(
    """# what this job may reach
    github.com:22,443   # by ssh and https
    *.Debian.org
    b\u00fccher.example
    192.0.2.0/24
    198.51.100.7:53
    [2001:db8::/32]:443
    2001:db9::1
    4.3.2.1.in-addr.arpa
    *.8.B.D.0.1.0.0.2.ip6.arpa.
    """
)


@pytest.mark.parametrize(
    ("name", "address", "port", "allowed"),
    [
        ("github.com", "203.0.113.1", 443, True),
        ("github.com", "203.0.113.1", 80, False),
        ("api.github.com", "203.0.113.1", 443, False),
        ("notgithub.com", "203.0.113.1", 443, False),
        ("github.com.evil.example", "203.0.113.1", 443, False),
        ("deb.debian.org", "203.0.113.1", 80, True),
        ("a.b.debian.org", "203.0.113.1", 80, True),
        ("debian.org", "203.0.113.1", 80, False),
        ("xdebian.org", "203.0.113.1", 80, False),
        ("xn--bcher-kva.example", "203.0.113.1", 80, True),
        ("", "192.0.2.255", 1, True),
        ("evil.example", "192.0.2.1", 1, True),
        ("", "192.0.3.1", 1, False),
        ("", "198.51.100.7", 53, True),
        ("", "198.51.100.7", 54, False),
        ("", "2001:db8::9", 443, True),
        ("", "2001:db8::9", 80, False),
        ("", "2001:db9::1", 80, True),
        ("", "203.0.113.1", 443, False),
    ],
)
def test_an_entry_allows_what_it_names(name, address, port, allowed):
    """A name allows itself, *.name all names below it, a network its addresses, each on its ports."""
    assert LIST.allows(name, address, port) is allowed


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("github.com", True),
        ("deb.debian.org", True),
        ("debian.org", False),
        ("", False),
        ("4.3.2.1.in-addr.arpa", True),
        ("5.3.2.1.in-addr.arpa", False),
        ("0.8.b.d.0.1.0.0.2.ip6.arpa", True),
        ("9.b.d.0.1.0.0.2.ip6.arpa", False),
    ],
)
def test_a_name_may_be_asked_whatever_its_ports(name, allowed):
    """The question for a name is allowed if the name is, on any port."""
    assert LIST.allows_name(name) is allowed


@pytest.mark.parametrize(
    "line",
    [
        "*", "*.", "a.*.example", "*x.example", "two words", "host:", "host:0", "host:70000", "host:x", "192.0.2.1/24",
        "192.0.2.300", "http://github.com/", "[2001:db8::1", "2001:db8::zz", "a" * 64 + ".example",
        "host:" + "9" * 5000, "a..example", "a\\032b.example", "resolver a.example", "resolver 192.0.2.0/24",
        "resolver 192.0.2.1:53", "resolver 192.0.2.1 192.0.2.2", "a.example TYPO", "a.example OPT TXT,MX",
        "a.example resolver", "a.example HTTPS8", "192.0.2.1 TXT", "[2001:db8::1] TXT", "a.example resolver b.example",
        "192.0.2.1 unchecked", "a.example resolver unchecked",
    ],
)  # fmt: skip
def test_a_line_that_is_no_entry_is_refused(line):
    """A wrong line is refused with its number, and never allows more than it says."""
    with pytest.raises(SettingsError, match="line 2"):
        parse_allow_list(f"good.example\n{line}\n")


LINE_ENDS = ["\x0b", "\x0c", "\r", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]  # for str.splitlines


@pytest.mark.parametrize("end", LINE_ENDS)
def test_a_comment_ends_with_its_line(end):
    """No character but a line feed ends a line: text behind `#` is no entry, and an entry cannot contain one."""
    assert parse_allow_list(f"# reviewed{end}evil.example\n") == parse_allow_list("")
    assert [*parse_allow_list("one.example\r\ntwo.example\r\n").names] == ["one.example", "two.example"]
    with pytest.raises(SettingsError, match="line 2"):
        parse_allow_list(f"good.example\none.example{end}two.example")


@pytest.mark.parametrize("ports", ["443,", ",", "443,,80", "443,123456", "0,443"])
def test_each_port_of_a_line_is_checked(ports):
    """The error names the line, and states which ports there are."""
    with pytest.raises(SettingsError, match=f"line 1: 'host:{ports}': a port is a number from 1 to 65535$"):
        parse_allow_list(f"host:{ports}")


def test_entries_are_bounded():
    """A list with too many entries is refused."""
    with pytest.raises(SettingsError, match="10000 entries"):
        parse_allow_list("a.example\n" * 10_001)


@pytest.mark.parametrize("entry", ["[::ffff:192.0.2.1]:443", "[::ffff:192.0.2.0]/120:443", "[::ffff:c000:201]:443"])
def test_a_mapped_address_is_that_of_ipv4(entry):
    """A socket that connects to ::ffff:192.0.2.1 reaches 192.0.2.1, and is judged and reported with it."""
    found = parse_allow_list(entry)
    assert found.allows("", "192.0.2.1", 443)
    assert not found.allows("", "192.0.3.1", 443)
    assert not found.allows("", "192.0.2.1", 80)


def test_an_empty_list_allows_nothing():
    """A list of comments allows nothing."""
    nothing = parse_allow_list("# nothing\n\n")
    assert not nothing.allows("a.example", "192.0.2.1", 443)
    assert not nothing.allows_name("a.example")


def test_a_path_is_the_socket_of_a_service():
    """An entry that begins with a slash is a path, and allows no name."""
    found = parse_allow_list("/run/docker.sock # of Docker\n/run/user/1000/bus\n")
    assert found.sockets == ["/run/docker.sock", "/run/user/1000/bus"]
    assert (found.names, found.suffixes, found.networks) == ({}, {}, [])


def test_a_resolver_is_a_server_to_ask():
    """A resolver may be asked on port 53, and its address is allowed on no other port; the word alone is a name."""
    found = parse_allow_list(
        "resolver 192.0.2.53\nresolver\t[2001:db8::53]\nresolver ::ffff:192.0.2.54 # a comment\nresolver\n"
    )
    assert [*found.resolvers.values()] == ["192.0.2.53", "2001:db8::53", "192.0.2.54"]
    assert [found.allows("", "192.0.2.53", port) for port in (53, 80)] == [True, False]
    assert (found.allows("", "192.0.2.55", 53), found.allows_name("resolver")) == (False, True)


def test_a_name_has_types_and_resolvers():
    """Words behind a name add types, and restrict it to resolvers; those of one entry are asked for nothing else."""
    found = parse_allow_list("_http._tcp.a.example SRV\nb.example:443 txt MX resolver 192.0.2.53 resolver [::1] # x\n")
    assert found.names == {
        "_http._tcp.a.example": [ListedName(types=frozenset({33}))],
        "b.example": [
            ListedName(frozenset({443}), frozenset({16, 15}), frozenset({b"\xc0\0\2\x35", bytes(15) + b"\1"}))
        ],
    }
    assert (found.resolvers, [*found.narrow.values()]) == ({}, ["192.0.2.53", "::1"])
    assert found.allows("", "192.0.2.53", 53)


def test_a_name_may_be_unchecked():
    """The word exempts the ports of its entry, in any place among the others; an address is never checked."""
    found = parse_allow_list("a.example:22 unchecked\n*.b.example MX unchecked resolver 192.0.2.53\nunchecked\n")
    assert found.names == {"a.example": [ListedName(frozenset({22}), unchecked=True)], "unchecked": [ListedName()]}
    (below,) = found.suffixes["b.example"]
    assert (below.unchecked, below.types, len(below.resolvers)) == (True, {15}, 1)


def test_a_list_includes_groups_and_files(tmp_path):
    """A group and an included file add their entries once; the path of a file begins at the folder of its list."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/a.txt").write_text("a.example\ninclude b.txt  # beside it\n")
    (tmp_path / "lists/b.txt").write_text("include ../main.txt\ninclude a.txt\nb.example\n")
    (tmp_path / "main.txt").write_text("@npm\n")
    text = "include lists/a.txt\n@npm\n@npm\nc.example\n"
    found = parse_allow_list(text, tmp_path / "list.txt", Path.read_text)
    assert [*found.names] == ["a.example", "registry.npmjs.org", "b.example", "c.example"]
    assert len(found.names["registry.npmjs.org"]) == 1


@pytest.mark.parametrize("name", group_names())
def test_a_group_is_a_dated_list(name):
    """Each group begins with its date, and has entries of names alone."""
    text = group_text(name)
    assert re.match(r"# 20\d\d-[01]\d-[0-3]\d: ", text)
    found = parse_allow_list(f"@{name}")
    assert found.names == parse_allow_list(text).names
    assert (found.suffixes, found.networks, found.sockets, found.resolvers) == ({}, [], [], {})


@pytest.mark.parametrize("line", ["@", "@none", "@../groups/pypi", "@pypi @npm", "include other.txt"])
def test_what_cannot_be_included_is_refused(line):
    """An unknown group, and a file where none is read, is refused with its line."""
    with pytest.raises(SettingsError, match="line 2"):
        parse_allow_list(f"good.example\n{line}\n")


def test_an_error_names_the_included_file(tmp_path):
    """An error in an included file names it."""
    (tmp_path / "a.txt").write_text("good.example\nno entry\n")
    with pytest.raises(SettingsError, match=r"--allow: .*/a.txt: line 2: 'no entry'"):
        parse_allow_list("include a.txt", tmp_path / "list.txt", Path.read_text)


def test_included_files_are_bounded(tmp_path):
    """A list that includes too many files is refused, in however many levels."""
    for number in range(MOST_INCLUDED + 1):
        (tmp_path / f"{number}.txt").write_text(f"include {number + 1}.txt\n")
    (tmp_path / f"{MOST_INCLUDED - 1}.txt").write_text("a.example\n")
    assert parse_allow_list("include 0.txt", tmp_path / "list", Path.read_text).allows_name("a.example")
    (tmp_path / f"{MOST_INCLUDED - 1}.txt").write_text(f"include {MOST_INCLUDED}.txt\n")
    with pytest.raises(SettingsError, match=f"more than {MOST_INCLUDED} files"):
        parse_allow_list("include 0.txt", tmp_path / "list", Path.read_text)
