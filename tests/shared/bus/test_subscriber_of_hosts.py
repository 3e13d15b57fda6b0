"""A subscriber to several hosts: it knows the publisher of each message, and none takes the place of another.

Tests of dnstrail.bus.subscriber_end.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

import pytest

from dnstrail.bus import ZmqBus, subscriber_end
from dnstrail.bus.keys import load_keys
from dnstrail.bus.remote_host import RemoteHost
from live.keyed_hosts import keyed_hosts
from live.workers import BOUND, wait_until

TOPIC = "t"


@pytest.fixture
def hosts():
    with keyed_hosts() as both:
        yield both


@contextmanager
def subscriber_to(hosts, *further):
    """Open a subscriber to both hosts, and to further addresses."""
    bus = ZmqBus(load_keys(hosts.central))
    try:
        yield bus, bus.subscriber([*hosts.addresses, *further], [TOPIC])
    finally:
        bus.close(now=True)


def next_of(bus, subscriber):
    """Wait for the next message, and return its publisher and its body."""
    while (message := subscriber.receive()) is None:
        bus.wait(subscriber, timeout=BOUND)
    return subscriber.publisher, message[1]


def fill_until(subscriber, number):
    """Take messages into memory until it holds so many."""
    wait_until(lambda: subscriber.fill() or subscriber.held >= number, "the messages in memory")


def test_the_publisher_of_each_message_is_known(hosts):
    """A message of another host comes with its key and the name of this key; one of this host comes with neither."""
    local = f"ipc://{hosts.folder}/local.sock"
    with subscriber_to(hosts, local) as (bus, subscriber):
        publisher = bus.publisher(local, lossless=False)
        hosts.await_subscribers(TOPIC)
        wait_until(lambda: publisher.subscribers(TOPIC), "the subscription")
        for each in (publisher, hosts.honest.publisher, hosts.hostile.publisher):
            each.publish(TOPIC, b"x")
        received = {next_of(bus, subscriber)[0] for _ in range(3)}
    assert received == {None, hosts.honest.remote, hosts.hostile.remote}


def test_a_start_has_the_same_id_whatever_the_name_of_its_key_is():
    """Two workers that name a key differently know its starts by the same id. Those of another key have another one."""
    one, same, other = RemoteHost("aa", "alpha"), RemoteHost("aa", "192.0.2.1"), RemoteHost("ab", "alpha")
    assert one.own("s") == same.own("s") == one.own(one.own("s")) != other.own("s")
    assert (one.owns(same.own("s")), one.owns(other.own("s")), one.owns("s")) == (True, False, False)
    assert other.own(one.own("s")) != one.own("s")


def test_a_flood_of_one_host_does_not_delay_another(hosts):
    """A message of a host comes after about as many bytes of a host that floods, however many wait."""
    with subscriber_to(hosts) as (bus, subscriber):
        hosts.await_subscribers(TOPIC)
        for _ in range(200):
            hosts.hostile.publisher.publish(TOPIC, bytes(10_000))
        fill_until(subscriber, 200)
        for _ in range(10):
            next_of(bus, subscriber)
        for _ in range(50):
            hosts.honest.publisher.publish(TOPIC, bytes(1000))
        fill_until(subscriber, 240)
        served = Counter(next_of(bus, subscriber)[0] for _ in range(60))
    assert served[hosts.honest.remote] == 50


def test_a_flood_of_one_host_leaves_memory_to_another(hosts, monkeypatch):
    """A host that sends more than the memory holds has half of it; the messages of another host have room besides."""
    monkeypatch.setattr(subscriber_end, "MOST_RECEIVED", 100_000)
    with subscriber_to(hosts) as (bus, subscriber):
        hosts.await_subscribers(TOPIC)
        for _ in range(30):
            hosts.hostile.publisher.publish(TOPIC, bytes(10_000))
        fill_until(subscriber, 4)
        hosts.honest.publisher.publish(TOPIC, b"x")
        wait_until(lambda: subscriber.fill() or subscriber.size % 10_512 == 513, "the message of the other host")
        assert 50_000 <= subscriber.size < 65_000
        received = Counter(next_of(bus, subscriber)[0] for _ in range(31))
    assert received == {hosts.hostile.remote: 30, hosts.honest.remote: 1}


def test_a_message_that_is_too_long_ends_the_connection_of_its_host_alone(hosts):
    """A host whose message is longer than any batch is disconnected; the other host is received."""
    with subscriber_to(hosts) as (bus, subscriber):
        hosts.await_subscribers(TOPIC)
        hosts.hostile.publisher.publish(TOPIC, bytes(2 << 20))
        hosts.honest.publisher.publish(TOPIC, b"x")
        assert next_of(bus, subscriber) == (hosts.honest.remote, b"x")
        subscriber.reopen(hosts.hostile.start)
        wait_until(lambda: hosts.hostile.publisher.publish(TOPIC, b"y") and subscriber.receive(), "a new connection")
        assert subscriber.publisher == hosts.hostile.remote


def test_a_new_connection_to_one_host_costs_another_nothing(hosts):
    """What a host has sent arrives, although the subscriber connects anew to another host before it reads."""
    with subscriber_to(hosts) as (bus, subscriber):
        hosts.await_subscribers(TOPIC)
        for number in range(100):
            hosts.honest.publisher.publish(TOPIC, b"%d" % number)
        for _ in range(5):
            subscriber.reopen(hosts.hostile.start)
        assert [next_of(bus, subscriber)[1] for _ in range(100)] == [b"%d" % number for number in range(100)]


def test_a_subscription_with_a_start_goes_to_its_publisher_alone(hosts):
    """A confirmation is sent to the host that published the start, also after a new connection, and to no other."""
    with subscriber_to(hosts) as (_, subscriber):
        hosts.await_subscribers(TOPIC)
        subscriber.subscribe("confirms", hosts.honest.start)
        wait_until(lambda: hosts.honest.publisher.subscribers("confirms"), "the subscription")
        subscriber.reopen(hosts.honest.start)
        publish = hosts.honest.publisher.publish
        wait_until(lambda: publish("confirms", b"x") and subscriber.receive(), "the new connection")
        hosts.await_subscribers(TOPIC)
        assert not hosts.hostile.publisher.subscribers("confirms")
        subscriber.unsubscribe("confirms", hosts.honest.start)
        wait_until(lambda: not hosts.honest.publisher.subscribers("confirms"), "its end")
