"""The result of a lookup as text for people; text from strangers is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dnstrail.container import container_text
from dnstrail.errors import DataNotFound
from dnstrail.process.terminal import escape_unprintable
from dnstrail_cli.lookups.timestamps import local_time

_INCOMPLETE = ", history incomplete"


def found_text(key: str, data: dict[str, Any] | DataNotFound) -> str:
    """Return a lookup as text: the key, its root, the names that belong to it, and its addresses."""
    if isinstance(data, DataNotFound):
        text = f"{escape_unprintable(key)}: not found{'' if data.history else _INCOMPLETE}"
        return f"{text}; {_asked_text(data.asked)}" if data.asked else text
    state = data.get("state", "live") + (", truncated" if data.get("truncated") else "")
    state += ", from the history" if data.get("source") else ""
    state += "" if data.get("history", True) else _INCOMPLETE
    rows = {
        "key": [key],
        "root": [data["dns_root"] or "(nobody asked for it)"],
        "names": data["dns_queries"],
        "addresses": data["ip_addresses"] or ["(none)"],
        **({"hosts": data["hosts"]} if data.get("hosts") else {}),
        "state": [state],
    }
    lines = [
        f"{name if place == 0 else '':<11}{escape_unprintable(value)}"
        for name, values in rows.items()
        for place, value in enumerate(values)
    ]
    return "\n".join(lines)


def _asked_text(asked: Mapping[str, Any]) -> str:
    """Return a question that brought no data as text, with its time in local time."""
    import dns.rdatatype

    moment = local_time(asked["time"])
    kind = dns.rdatatype.to_text(dns.rdatatype.RdataType.make(asked["type"]))
    text = f"{kind} was asked at {moment} by {client_text(asked)}: {asked['outcome']}"
    return escape_unprintable(text + (f" from {asked['server']}" if asked["server"] else ""))


def _container_text(asker: Mapping[str, Any]) -> str:
    shown = container_text(asker["container_id"], asker.get("container_name", ""))
    return f"container {shown}" if shown else ""


def client_text(asker: Mapping[str, Any]) -> str:
    """Return who asked, as far as it is known: the process with its container or unit, the client, and the host."""
    client = asker["client"]
    host = f" on {asker['host']}" if asker.get("host") else ""
    if not asker["process_id"]:
        return (f"client {client}" if client else "an unknown client") + host
    place = _container_text(asker) or asker.get("unit")
    where = f" in {place}" if place else ""
    return f"{asker['process_name']}({asker['process_id']}){where}" + (f" at {client}" if client else "") + host
