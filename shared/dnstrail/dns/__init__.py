"""A fast decoder of DNS messages that reads only the fields of relations (RFC 1035, section 4)."""

from __future__ import annotations

from dnstrail.dns.message import Message, ResourceRecord, decode, is_response
from dnstrail.dns.service_binding import ServiceBinding

__all__ = ["Message", "ResourceRecord", "ServiceBinding", "decode", "is_response"]
