"""The server names that tshark read from the corpus (connect_names.tsv)."""

from __future__ import annotations

import csv
from ipaddress import ip_address
from typing import NamedTuple

from builders.corpus import CORPUS


class Connect(NamedTuple):
    """A row: a client sent a server name to a server."""

    epoch: int
    client: str
    server: str
    port: int
    name: str
    evidence: str


_EVIDENCE = {"sni": "sni", "http": "host"}


def connects() -> dict[str, list[Connect]]:
    """Return the rows of each capture."""
    if CORPUS is None:
        return {}
    found: dict[str, list[Connect]] = {}
    with (CORPUS / "connect_names.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            seconds, fraction = row["epoch"].split(".")
            epoch = int(seconds) * 10**9 + int(fraction.ljust(9, "0"))
            evidence = _EVIDENCE[row["source"]]
            connect = Connect(epoch, row["client"], row["server"], int(row["port"]), row["name"], evidence)
            found.setdefault(row["file"], []).append(connect)
    return found


def is_literal(name: str) -> bool:
    """Return whether a name, without its port, is an address."""
    try:
        ip_address(name.partition(":")[0])
    except ValueError:
        return False
    return True
