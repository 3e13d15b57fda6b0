"""Names that are no host names, as people write them: with dnspython's escapes, or in Unicode (IDNA)."""

from __future__ import annotations

import dns.exception
import dns.name


def labels_of(text: str) -> tuple[bytes, ...] | None:
    """Return the labels of a name, without the root; None if the text is no name."""
    try:
        return _parse(text).labels[:-1]
    except (dns.exception.DNSException, UnicodeError):
        return None


def _parse(text: str) -> dns.name.Name:
    try:
        return dns.name.from_text(text, idna_codec=dns.name.IDNA_2008_UTS_46)
    except dns.name.IDNAException:  # symbols and emoji: IDNA 2003 allowed them, and registries still hold them
        return dns.name.from_text(text, idna_codec=dns.name.IDNA_2003)
