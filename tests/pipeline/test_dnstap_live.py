from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from builders.dnstap_builders import START, WHOLE, Writer, framed, tap
from dnstrail.bus.ipc import lookups_address
from dnstrail.captured import Captured
from dnstrail.process.clock import StreamClock
from dnstrail_probe.sources.capture_file import CaptureFileSource
from dnstrail_probe.sources.dnstap_socket import DnstapSocket
from live import encrypted
from live.encrypted import SECRET, SECRET_ADDRESS, dnsdist, encrypted_or_skip
from live.namespaces import CLIENT, GOOGLE, Hosts, hosts, live_or_skip
from live.processes import run_dir, started, wait_until
from live.unbound import ask, unbound
from live.workers import Asker, asker, response


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Two hosts that only these tests use."""
    live_or_skip("unbound", "kdig", "openssl")
    with hosts() as both:
        yield both


@contextmanager
def fed_from_dnstap() -> Iterator[tuple[Path, Asker]]:
    """Yield a cache that is fed from a dnstap socket; yields its folder, and who may ask it."""
    with (
        run_dir() as folder,
        started("cache", "--run-dir", folder),
        started("probe", "--run-dir", folder, "--capture", f"dnstap:{folder}/dnstap.sock", "--subscribers", "1"),
        asker(lookups_address(folder)) as client,
    ):
        wait_until((folder / "dnstap.sock").exists, "the socket")
        wait_until(lambda: client.ask("health")["data"]["turns"], "the probe")
        yield folder, client


def test_names_behind_encrypted_dns_are_known(network):
    """A name that a client asked over TLS is in the image, told by a real unbound, with the query that it answers."""
    with fed_from_dnstap() as (folder, client), unbound(network, folder, folder / "dnstap.sock"):
        assert ask(network, "google.com") == GOOGLE
        wait_until(lambda: client.ask("get", key="google.com")["ok"], "the name in the image")
        assert client.ask("get", key=GOOGLE)["data"]["dns_root"] == "google.com"
        assert set(client.ask("stats")["data"]["admission"]) == {"matched"}


@pytest.mark.parametrize("how", ["+tls", "+https"])
def test_names_that_dnsdist_serves_are_known(network, how):
    """A name that a client asked dnsdist over TLS or HTTPS is in the image, with the query that it answers."""
    encrypted_or_skip()
    with fed_from_dnstap() as (folder, client), dnsdist(network, folder, folder / "dnstap.sock"):
        assert encrypted.ask(network, SECRET, how) == SECRET_ADDRESS
        wait_until(lambda: client.ask("get", key=SECRET_ADDRESS)["ok"], "the name in the image")
        assert client.ask("get", key=SECRET_ADDRESS)["data"]["dns_root"] == SECRET
        assert set(client.ask("stats")["data"]["admission"]) == {"matched"}


def test_what_was_encrypted_is_told(network):
    """Of dnsdist's messages each tells by what it came, who the client was, and which server told it."""
    encrypted_or_skip()
    with run_dir() as folder, closing(DnstapSocket(str(folder / "dnstap.sock"), StreamClock())) as source:
        with dnsdist(network, folder, folder / "dnstap.sock"):
            assert encrypted.ask(network, SECRET, "+https") == SECRET_ADDRESS
            events: list[Captured] = []

            def transports() -> set[tuple[str, str]]:
                events.extend(event for _, event in source.read(0.01))
                return {(event.args["dnstap"], event.args["transport"]) for event in events}

            wanted = {(f"CLIENT_{kind}", how) for kind in ("QUERY", "RESPONSE") for how in ("dot", "doh")}
            wait_until(lambda: transports() == wanted, "what dnsdist writes")
        assert {event.args["identity"] for event in events} == {"dnsdist.test"}
        asked = [event for event in events if event.args["dnstap"] == "CLIENT_QUERY"]
        assert {event.flow.source_text for event in asked} == {CLIENT}


def test_a_restarted_resolver_is_heard_again(network):
    """A resolver that ends and comes again is heard again, on the same socket."""
    with fed_from_dnstap() as (folder, client):
        for name in ("google.com", "mail.google.com"):
            with unbound(network, folder, folder / "dnstap.sock"):
                assert ask(network, name) == GOOGLE
                wait_until(lambda name=name: client.ask("get", key=name)["ok"], f"{name} in the image")


def test_a_tools_file_is_read(network, tmp_path):
    """The dnstap file of another writer, kdig, holds the query and the response that it saw, and both are read."""
    with run_dir() as folder, unbound(network, folder, folder / "nobody.sock"):
        assert ask(network, "google.com", "-E", str(tmp_path / "kdig.tap")) == GOOGLE
    source = CaptureFileSource(str(tmp_path / "kdig.tap"))
    events = [event for _, event in source.read(1)]
    assert source.read(1) is None
    assert [event.args["dnstap"] for event in events] == ["TOOL_QUERY", "TOOL_RESPONSE"]
    assert events[1].flow.source_text == "127.0.0.1"
    source.close()


def test_answers_without_their_queries_are_accepted():
    """A resolver may write responses alone: by default they are admitted, however long the probe has been heard."""
    with fed_from_dnstap() as (folder, client):
        writer = Writer(folder / "dnstap.sock")
        stamp = int(time.time()) + 60  # past the half minute in which the cache has just come to know the probe
        answers = [
            tap(
                response_message=response(f"n{at}.example", f"n{at}.example 600 A 192.0.2.{at}"),
                **{**WHOLE, "response_time_sec": stamp},
            )
            for at in range(3)
        ]
        writer.send(START + framed(*answers))
        wait_until(lambda: client.ask("stats")["data"]["image"].get("related", 0) == 3, "the answers")
        assert client.ask("stats")["data"]["admission"] == {"unmatched_query": 3, "unmatched_accepted": 3}
        writer.close()
