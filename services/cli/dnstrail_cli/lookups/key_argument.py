"""The keys of a lookup on the command line: a key that no name and no address can be is refused, with what to write."""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import ip_network
from typing import TypeVar
from urllib.parse import urlsplit

import click

from dnstrail.capture_options import STDIN
from dnstrail.errors import SettingsError

Keys = TypeVar("Keys", str, tuple[str, ...])
_PORT = re.compile(r"(\[[^\[\]]+\]|[^:\[\]]+):\d{1,5}", re.ASCII)
_LONGEST = 300  # characters of a key in an error


def check_keys(_ctx: click.Context, _param: click.Parameter, value: Keys) -> Keys:
    """Return the key of an argument, or its keys.

    Raises:
        SettingsError: one of them is no key; the text names the reason, and the key to write instead if there is one.
    """
    for key in (value,) if isinstance(value, str) else value:
        if key != STDIN and (reason := _fault(key.strip())):
            raise SettingsError(f"key {key!r:.{_LONGEST}} {reason}")
    return value


def _fault(key: str) -> str:
    """Return why a text is no key, or ""."""
    if not key:
        return "is empty: write a name or an address"
    if "://" in key:
        return f"is a URL: look up its host{_offer(_host_of(key))}"
    if "/" in key and _is_network(key):
        return "is a network: look up one address of it"
    if key.startswith("*."):
        return rf"is a pattern: look up one name (the label * itself is \042{key[1:]})"
    if found := _PORT.fullmatch(key):
        return f"has a port: look up its host{_offer(found[1].strip('[]'))}"
    return "" if _is_key(key) else "is neither a name nor an address"


def _offer(host: str) -> str:
    return f", {host}" if host and _is_key(host) else ""


def _host_of(url: str) -> str:
    with suppress(ValueError):
        return urlsplit(url).hostname or ""
    return ""


def _is_network(key: str) -> bool:
    with suppress(ValueError):
        return bool(ip_network(key, strict=False))
    return False


def _is_key(key: str) -> bool:
    from dnstrail.dns.names import address_text, name_text  # noqa: PLC0415 - help does without

    return address_text(key) is not None or name_text(key) is not None
