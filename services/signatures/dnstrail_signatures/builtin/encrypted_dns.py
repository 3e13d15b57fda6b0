"""Encrypted DNS: a connection to the port of DNS over TLS or QUIC, or to a known resolver for DNS over HTTPS.

Sees: the beginning of encrypted DNS, by port, by known name (a question before, or the server name with
`--evidence sni`), and by known address.
Cannot see: an unknown resolver on port 443, and the names that are asked.
False positives: a web page of the operator of a resolver; hosts that use encrypted DNS on purpose.
MITRE: T1573.
Settings: `ports` of DNS over TLS and QUIC; `names` of resolvers cover the names below them; `addresses` count on port
443; a program and destination are reported again after `quiet` seconds; `subjects` bounds the state.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from dnstrail.events import NET_SERVER_NAME, NET_TCP_CONNECT, NET_UDP_CONNECT, Event
from dnstrail.signature import EventSelector, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.setting_types import Count, Port, Seconds, normal_addresses, normal_names
from dnstrail_signatures.detection.stateful_signature import ReportsOnce
from dnstrail_signatures.detection.subjects import covered_by

_HTTPS = 443


class EncryptedDnsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The known resolvers."""

    ports: tuple[Port, ...] = (853,)
    names: tuple[str, ...] = (
        "adguard-dns.com",
        "chrome.cloudflare-dns.com",
        "cloudflare-dns.com",
        "dns.adguard.com",
        "dns.google",
        "dns.mullvad.net",
        "dns.nextdns.io",
        "dns.quad9.net",
        "dns.sb",
        "dns0.eu",
        "doh.cleanbrowsing.org",
        "doh.dns.sb",
        "doh.opendns.com",
        "doh.xfinity.com",
        "freedns.controld.com",
        "mozilla.cloudflare-dns.com",
        "one.one.one.one",
    )
    addresses: tuple[str, ...] = (
        "1.0.0.1",
        "1.1.1.1",
        "8.8.4.4",
        "8.8.8.8",
        "9.9.9.9",
        "94.140.14.14",
        "149.112.112.112",
        "208.67.220.220",
        "208.67.222.222",
        "2001:4860:4860::8844",
        "2001:4860:4860::8888",
        "2606:4700:4700::1001",
        "2606:4700:4700::1111",
        "2620:fe::9",
        "2620:fe::fe",
    )
    quiet: Seconds = 86400.0
    subjects: Count = 4096

    def __post_init__(self) -> None:
        """Read names and addresses in any spelling.

        Raises:
            ValueError: one of them is no domain name, or no address.
        """
        msgspec.structs.force_setattr(self, "names", normal_names("names", self.names))
        msgspec.structs.force_setattr(self, "addresses", normal_addresses("addresses", self.addresses))


class EncryptedDns(ReportsOnce):
    """Reports a program and its resolver, once in a time."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-11",
        version="1",
        name="Encrypted DNS",
        event_name="ENCRYPTED_DNS",
        event_id=6011,
        description="A program connected to a resolver for encrypted DNS, whose questions dnstrail cannot see.",
        tags=("dns",),
        properties={
            "Severity": 1,
            "Category": "command-and-control",
            "Technique": "Encrypted Channel",
            "id": "attack-pattern--b8902400-e6c5-4ba2-95aa-2d35b442b118",
            "external_id": "T1573",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (
        EventSelector(name=NET_TCP_CONNECT),
        EventSelector(name=NET_UDP_CONNECT),
        EventSelector(name=NET_SERVER_NAME),
    )
    settings: ClassVar[EncryptedDnsSettings] = EncryptedDnsSettings()

    def init(self, ctx: SignatureContext) -> None:
        """Begin without state."""
        super().init(ctx)
        self._names = frozenset(self.settings.names)

    def on_event(self, event: Event) -> None:
        """Compare a destination with the known ones."""
        reason = self._reason(event, event.arg("dst_port"))
        if reason and self._once.first(self.subject(event, reason), event.timestamp):
            self.report(event, resolver=reason, address=event.arg("dst"), port=event.arg("dst_port"))

    def _reason(self, event: Event, port: object) -> str:
        """Return by what the destination is known, or ""."""
        address = str(event.arg("dst"))
        if port in self.settings.ports:
            return f"{address} port {port}"
        if port != _HTTPS:
            return ""
        stated = event.arg("server_name")
        names = [stated] if stated else (event.arg("dst_dns") or [])[:1]
        name = next((found for name in names if (found := covered_by(name, self._names))), None)
        return name or (address if address in self.settings.addresses else "")
