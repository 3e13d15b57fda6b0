"""A central cache that follows two hosts over CURVE names them on the command line."""

from __future__ import annotations

import json
import time

import pytest

from dnstrail.bus.ipc import lookups_address
from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import NET_PACKET_DNS, NET_TCP_CONNECT
from dnstrail.protocol.batches import Batch, Turn
from live.keyed_hosts import HONEST, HOSTILE, keyed_hosts
from live.processes import dnstrail
from live.workers import response, wait_until

ADDRESS, NOT_FOUND = "192.0.2.1", 1
APP = Process(70, "app", thread_id=70, start_time=1)


@pytest.fixture
def central():
    """Run a cache of two hosts: each asked for a name of its own with the same address, and connected to it."""
    with keyed_hosts() as both, both.cache() as (client, _):
        for host in (both.honest, both.hostile):
            host.send(Turn(host.start, 0, {}, now=time.time_ns(), published={}, live=True, host="x"))
        wait_until(lambda: len(client.ask("health")["data"]["turns"]) == 2, "the clocks of both")
        for number, (name, host) in enumerate(((HONEST, both.honest), (HOSTILE, both.hostile)), 1):
            payload, now = response(f"{name}.example", f"{name}.example 300 A {ADDRESS}"), time.time_ns()
            way = Flow(bytes(4), 53, bytes(4), 40000, "udp", number, 1)
            out = Flow(bytes(4), 40000, bytes([192, 0, 2, 1]), 443, "tcp", number, 1, egress=True)
            opened = Captured(now, b"", out, APP, {"dst": ADDRESS, "dst_port": 443})
            host.send(
                (
                    NET_PACKET_DNS,
                    Batch(host.start, 0, 0, (Captured(now, payload, way, APP),), {NET_PACKET_DNS: 0}, "x"),
                ),
                (NET_TCP_CONNECT, Batch(host.start, 0, 0, (opened,), {NET_TCP_CONNECT: 0}, "x")),
                Turn(
                    host.start, 1, {}, now=now, published={NET_PACKET_DNS: 1, NET_TCP_CONNECT: 1}, live=True, host="x"
                ),
            )
        wait_until(lambda: len(client.ask("connections")["data"]["connections"]) == 2, "both connections")
        yield lookups_address(both.folder)


def lines(central: str, *arguments: str, code: int = 0) -> list[str]:
    """Return the lines that a lookup of the cache prints."""
    command, *others = arguments
    ended = dnstrail(command, "--cache", central, *others)
    assert ended.returncode == code, ended.stderr
    return (ended.stdout or ended.stderr).splitlines()


def test_a_central_cache_names_the_hosts_and_answers_for_one(central):
    """`trail`, `get` and `connections` name the hosts by their keys; --connection host=NAME limits each of them."""
    [trail] = map(json.loads, lines(central, "trail", "--json", ADDRESS))
    assert {one["dns_root"]: [asker["host"] for asker in one["asked"]] for one in trail["trails"]} == {
        "honest.example": [HONEST],
        "hostile.example": [HOSTILE],
    }
    assert any(" on hostile, " in line for line in lines(central, "trail", ADDRESS))
    drawn = lines(central, "trail", "--connection", f"host={HONEST},process=70", ADDRESS)
    assert not any(HOSTILE in line for line in drawn)
    for host in (HONEST, HOSTILE):
        [found] = map(json.loads, lines(central, "get", "--json", "--connection", f"host={host}", ADDRESS))
        assert (found["dns_queries"], found["hosts"]) == ([f"{host}.example"], [host])
        [one] = map(json.loads, lines(central, "connections", "--json", "--connection", f"host={host}"))
        assert (one["host"], one["name"]) == (host, f"{host}.example")
    assert f"{'hosts':<11}{HONEST}" in lines(central, "get", "honest.example")
    assert lines(central, "connections")[0].split()[-1] == "host"
    lines(central, "get", "--connection", f"host={HONEST}", "hostile.example", code=NOT_FOUND)
    lines(central, "connections", "--connection", "host=nobody", code=NOT_FOUND)
