"""The name that the first bytes of a connection state."""

from __future__ import annotations

import ssl

import pytest

from stated_name import stated_name


def client_hello(name: str) -> bytes:
    """Return the first bytes that OpenSSL sends to a server of this name."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(received, sent, server_hostname=name).do_handshake()
    return sent.read()


def test_a_client_hello_states_its_server_name():
    """The server name of a ClientHello is the name, in lower case."""
    assert stated_name(client_hello("Shop.example")) == "shop.example"


def test_a_name_is_stated_once_its_message_is_whole():
    """The start of a ClientHello states no name, whatever its length."""
    whole = client_hello("shop.example")
    assert {stated_name(whole[:length]) for length in range(len(whole))} == {""}


def test_a_request_states_its_host():
    """The host of an HTTP request is the name, without its port."""
    request = b"GET / HTTP/1.1\r\nHost: shop.example:8080\r\n\r\n"
    assert stated_name(request) == "shop.example"
    assert not stated_name(request[:-1])


@pytest.mark.parametrize("data", [b"", b"SSH-2.0-OpenSSH_10.0\r\n", b"\x16\x03\x01\x00\x00", b"GET / HTTP/1.0\r\n\r\n"])
def test_other_bytes_state_no_name(data):
    """Bytes of another protocol, and a request without a host, state no name."""
    assert not stated_name(data)
