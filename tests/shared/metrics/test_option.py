"""The option --metrics."""

from __future__ import annotations

import click
import pytest

from dnstrail.metrics.option import metrics_option

ADDRESSES = {
    "9153": ("127.0.0.1", 9153),
    "127.0.0.1:1": ("127.0.0.1", 1),
    "0.0.0.0:9153": ("0.0.0.0", 9153),
    "[::1]:9153": ("::1", 9153),
    ":9153": ("127.0.0.1", 9153),
}


def given(value):
    """Return what a command with the option receives."""
    received = []
    command = metrics_option(click.Command("x", callback=lambda **given: received.extend(given.values())))
    command.main([] if value is None else ["--metrics", value], standalone_mode=False)
    return received[0]


@pytest.mark.parametrize("text", ADDRESSES)
def test_a_port_alone_is_on_the_loopback_interface(text):
    """A port without an address is served to this host alone."""
    assert given(text) == ADDRESSES[text]


def test_no_metrics_are_served_unless_asked():
    """Without the option nothing is bound."""
    assert given(None) is None


@pytest.mark.parametrize("text", ["localhost:9153", "65536", "", "x", "127.0.0.1", "127.0.0.1:", "1:2:3:4", "9\u0661"])
def test_a_bad_address_is_refused(text):
    """A name is refused and not resolved, as is a port that is none."""
    with pytest.raises(click.BadParameter, match=r"is no (address|port)"):
        given(text)
