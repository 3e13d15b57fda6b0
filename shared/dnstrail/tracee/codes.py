"""The strings that tracee prints for the numbers of a DNS message: those of gopacket's layers/dns.go.

tracee prints opcodes and response codes in lower case. gopacket prints every other number as "Unknown".
The blank behind "server failure" is gopacket's.
"""

from __future__ import annotations

UNKNOWN = "Unknown"

OPCODES = {0: "query", 1: "inverse query", 2: "status", 4: "notify", 5: "update"}

RESPONSE_CODES = {
    0: "no error",
    1: "format error",
    2: "server failure ",
    3: "non-existent domain",
    4: "not implemented",
    5: "query refused",
    6: "name exists when it should not",
    7: "rr set exists when it should not",
    8: "rr set that should exist does not",
    9: "server not authoritative for zone",
    10: "name not contained in zone",
    16: "bad opt version",
    17: "key not recognized",
    18: "signature out of time window",
    19: "bad tkey mode",
    20: "duplicate key name",
    21: "algorithm not supported",
    22: "bad truncation",
    23: "bad cookie",
}

TYPES = {
    1: "A",
    2: "NS",
    3: "MD",
    4: "MF",
    5: "CNAME",
    6: "SOA",
    7: "MB",
    8: "MG",
    9: "MR",
    10: "NULL",
    11: "WKS",
    12: "PTR",
    13: "HINFO",
    14: "MINFO",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    35: "NAPTR",
    41: "OPT",
    46: "RRSIG",
    48: "DNSKEY",
    64: "SVCB",
    65: "HTTPS",
    256: "URI",
}

CLASSES = {1: "IN", 2: "CS", 3: "CH", 4: "HS", 255: "Any"}

OPTIONS = {  # of OPT records (RFC 6891, section 6.1.2)
    3: "NSID",
    5: "DAU",
    6: "DHU",
    7: "N3U",
    8: "EDNSClientSubnet",
    9: "EDNSExpire",
    10: "Cookie",
    11: "EDNSKeepAlive",
    12: "CodePadding",
    13: "CodeChain",
    14: "CodeEDNSKeyTag",
    16: "EDNSClientTag",
    17: "EDNSServerTag",
    26946: "DeviceID",
}
