"""A key that is none is refused by `get` and `trail`, with the reason."""

from __future__ import annotations

import pytest

from dnstrail.errors import SettingsError
from dnstrail_cli.lookups.lookup import check_keys
from live.processes import dnstrail

REFUSED = {
    "": "is empty: write a name or an address",
    " ": "is empty: write a name or an address",
    "http://example.com/x": "is a URL: look up its host, example.com",
    "HTTPS://user@Example.com:443/": "is a URL: look up its host, example.com",
    "https://[2001:db8::1]:443/": "is a URL: look up its host, 2001:db8::1",
    "http://[broken/": "is a URL: look up its host",
    "1.2.3.4/24": "is a network: look up one address of it",
    "2001:db8::/32": "is a network: look up one address of it",
    "*.example": r"is a pattern: look up one name (the label * itself is \042.example)",
    "example.com:443": "has a port: look up its host, example.com",
    "[2001:db8::1]:443": "has a port: look up its host, 2001:db8::1",
    "..": "is neither a name nor an address",
    "a..b": "is neither a name nor an address",
}
KEYS = (
    "example.com",
    "A.Example.",
    ".",
    " 1.1.1.1",
    "[2606:4700::1]",
    "::ffff:1.1.1.1",
    "0/25.2.0.192.in-addr.arpa",
    "x.in-addr.arpa",
    "_dmarc.example",
    r"\042.example",
    "a.*.example",
    "b\u00fccher.example",
    "-",
)


@pytest.mark.parametrize("key", REFUSED)
def test_a_key_that_is_none_is_refused(key: str) -> None:
    """The error states why a text is no key, and offers the host of a URL."""
    with pytest.raises(SettingsError) as refused:
        check_keys(None, None, ("example.com", key))
    assert str(refused.value) == f"key {key!r} {REFUSED[key]}"


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_accepted(key: str) -> None:
    """Names and addresses in every spelling are accepted, odd and reverse names too."""
    assert check_keys(None, None, key) == key


@pytest.mark.parametrize("command", ["get", "trail"])
def test_a_refused_key_is_wrong_usage(command: str) -> None:
    """The commands exit with 2 and one line."""
    done = dnstrail(command, "--capture", "demo", "http://shop.example/x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: key 'http://shop.example/x' is a URL: look up its host, shop.example\n"
