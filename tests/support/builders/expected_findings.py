"""The findings that the built-in signatures should report on the corpus; every other finding is a false positive."""

from __future__ import annotations

from typing import Final

ATTACK: Final = {  # by capture: its findings. These captures are no ordinary traffic
    "attack__cmds-over-dns-txt.pcap": ("DNS_TXT_CODE",),
    "ndpi__bad-dns-traffic.pcap": ("DNS_TUNNEL",),
    "ndpi__dns-exf.pcap": (),
    "ndpi__dns-tunnel-iodine.pcap": ("DNS_RARE_TYPE", "DNS_TUNNEL", "DNS_TUNNEL_TOOL"),
    "ndpi__dns2tcp_tunnel.pcap": ("ENCRYPTED_DNS", "CONNECTION_WITHOUT_DNS"),
    "ndpi__dns_doh.pcap": ("ENCRYPTED_DNS", "CONNECTION_WITHOUT_DNS"),
    "ndpi__dns_dot.pcap": ("ENCRYPTED_DNS",),
    "ndpi__dnscrypt-v2-doh.pcap": ("ENCRYPTED_DNS", "ENCRYPTED_DNS"),
    "ndpi__doh.pcapng": ("ENCRYPTED_DNS", "CONNECTION_WITHOUT_DNS"),
    "ndpi__doq.pcapng": (),
    "ndpi__synscan.pcap": ("CONNECTION_WITHOUT_DNS",),
    "sv__dns__bug-1158__input.pcap": ("DNS_TUNNEL_TOOL", "DNS_TXT_CODE"),
    "sv__dns__dns-udp-null__input.pcap": ("DNS_RARE_TYPE",),
    "zeek__quic__quicdoq.pcap": (),
}
MISSED: Final = {  # what no signature can see there, and why
    "ndpi__dns-exf.pcap": "exfiltration in one name: one exchange is no pattern",
    "ndpi__doq.pcapng": "DNS over QUIC: a capture file has no event for it (eBPF has `net_udp_connect`)",
    "zeek__quic__quicdoq.pcap": "the same",
}
EXPLAINED: Final = {  # findings on ordinary captures: (event, capture): the reason
    ("DNS_REVERSE_SWEEP", "tracee-dnsperf.pcap"): "a load test: 1,854 reverse names in 20 s",
}
# Off, and counted here without their time to learn:
INFORMATION: Final = ("CONNECTION_WITHOUT_DNS", "DNS_NEW_ANSWER", "DNS_NEW_DOMAIN")
