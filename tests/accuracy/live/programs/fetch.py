"""Fetch URLs by a library of Python: fetch.py LIBRARY in-turn|at-once URL..."""

from __future__ import annotations

import asyncio
import importlib
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

TIMEOUT = 10


def by_urllib(url: str) -> None:
    """Fetch by the standard library."""
    urllib.request.urlopen(url, timeout=TIMEOUT).read()


def by_module(module: str) -> Callable[[str], Any]:
    """Return the function that fetches by requests, httpx or niquests."""
    get = importlib.import_module(module).get
    return lambda url: get(url, timeout=TIMEOUT)


async def by_httpx(urls: list[str], gather: Callable[..., Awaitable[object]]) -> None:
    """Fetch by one client of httpx."""
    httpx = importlib.import_module("httpx")
    async with httpx.AsyncClient(timeout=TIMEOUT) as client:
        await gather([client.get(url) for url in urls])


async def by_aiohttp(urls: list[str], gather: Callable[..., Awaitable[object]]) -> None:
    """Fetch by one session of aiohttp."""
    aiohttp = importlib.import_module("aiohttp")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT)) as session:
        await gather([session.get(url) for url in urls])


async def in_turn(requests: list[Awaitable[object]]) -> None:
    """Wait for one request after the other."""
    for request in requests:
        await attempt(request)


async def at_once(requests: list[Awaitable[object]]) -> None:
    """Wait for all requests together."""
    await asyncio.gather(*map(attempt, requests))


async def attempt(request: Awaitable[object]) -> None:
    """Wait for a request, whose failure is printed."""
    try:
        await request
    except Exception as error:  # noqa: BLE001 - broken names are part of the measurement
        print(type(error).__name__, error, file=sys.stderr)


def main(library: str, how: str, urls: list[str]) -> None:
    """Fetch all URLs."""
    if library in ("httpx-async", "aiohttp"):
        fetch = by_httpx if library == "httpx-async" else by_aiohttp
        asyncio.run(fetch(urls, in_turn if how == "in-turn" else at_once))
        return
    get = by_urllib if library == "urllib" else by_module(library)

    async def in_thread(url: str, pool: ThreadPoolExecutor) -> None:
        await asyncio.get_running_loop().run_in_executor(pool, get, url)

    async def run() -> None:
        with ThreadPoolExecutor(1 if how == "in-turn" else len(urls)) as pool:
            await at_once([in_thread(url, pool) for url in urls])

    asyncio.run(run())


main(sys.argv[1], sys.argv[2], sys.argv[3:])
