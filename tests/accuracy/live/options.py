"""The options of the measurement."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from clients import CLIENTS
from internet import MOST_NAMES
from resolvers import RESOLVERS

ALL = "all"
_CAPTURES = ("ebpf:getaddrinfo", "ebpf")


def read_options() -> argparse.Namespace:
    """Return the options of the command line."""
    names = [client.name for client in CLIENTS]
    small = [client.name for client in CLIENTS if not client.large]
    parser = argparse.ArgumentParser(prog="accuracy-live", description="Measure live how often a connection is named.")
    add = parser.add_argument
    add("--seed", type=int, default=1, help="draws names, addresses and URLs (default: 1)")
    add("--names", type=_names, default=500, help="names of the made-up internet (default: 500)")
    add("--shared", type=_share, default=0.1, help="share of the names on one address (default: 0.1)")
    add("--connections", type=int, default=600, help="URLs to fetch (default: 600)")
    add("--rate", type=float, default=10.0, help="URLs a second (default: 10)")
    resolvers = f"the resolvers, each on a client host of its own: all (default), or some of {', '.join(RESOLVERS)}"
    add("--resolver", type=_some_of([*RESOLVERS]), default=[*RESOLVERS], metavar="NAME,...", help=resolvers)
    clients = f"all, or some of {', '.join(names)} (default: all but the large ones)"
    add("--clients", type=_some_of(names), default=small, metavar="NAME,...", help=clients)
    add("--capture", choices=_CAPTURES, default=_CAPTURES[0], help="the source of dnstrail (default: %(default)s)")
    add("--minutes", type=float, default=0.0, help="run steady clients for so long, instead of CLIENTS")
    add("--clients-at-once", type=int, default=200, metavar="COUNT", help="steady clients (default: 200)")
    add("--restart-cache", action="store_true", help="restart the cache after a quarter of the minutes")
    add("--server-names", action="store_true", help="let dnstrail read server names, and ask again with each of them")
    add("--json", type=Path, metavar="FILE", help="write each connection with the answers about it")
    return parser.parse_args()


def _names(text: str) -> int:
    if not 10 <= int(text) <= MOST_NAMES:
        raise argparse.ArgumentTypeError(f"10 to {MOST_NAMES} names have addresses of their own")
    return int(text)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError("a share lies between 0 and 1")
    return share


def _some_of(known: list[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        if text == ALL:
            return known
        if unknown := {*text.split(",")} - {*known}:
            raise argparse.ArgumentTypeError(f"{min(unknown)!r} is none of {', '.join(known)}")
        return text.split(",")

    return read
