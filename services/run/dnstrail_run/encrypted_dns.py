"""Recognizes connections that carry encrypted DNS: by their port, or by a public resolver behind port 443."""

from __future__ import annotations

from dnstrail_run.report import ReachedAddress

_DNS_OVER_TLS, _HTTPS = 853, 443  # RFC 7858 and RFC 9250; RFC 8484
_RESOLVERS = frozenset(
    {
        "cloudflare-dns.com", "dns.adguard-dns.com", "dns.google", "dns.mullvad.net", "dns.nextdns.io",
        "dns.quad9.net", "dns0.eu", "doh.cleanbrowsing.org", "doh.opendns.com", "dot.libredns.gr",
        "mozilla.cloudflare-dns.com", "one.one.one.one",
        "1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "149.112.112.112", "208.67.222.222", "208.67.220.220",
        "94.140.14.14", "94.140.15.15", "2606:4700:4700::1111", "2606:4700:4700::1001", "2001:4860:4860::8888",
        "2001:4860:4860::8844", "2620:fe::fe", "2620:fe::9",
    }
)  # fmt: skip


def is_encrypted_dns(reached: ReachedAddress) -> bool:
    """Return whether a connection carries encrypted DNS, as far as its ends show it."""
    if reached.port == _DNS_OVER_TLS:
        return True
    return reached.port == _HTTPS and not _RESOLVERS.isdisjoint((reached.name, reached.address))
