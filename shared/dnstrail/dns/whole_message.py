"""A whole message as dnspython parses it, with a bound on the work of dnspython."""

from __future__ import annotations

from functools import cache
from typing import Any, Self

import dns.exception
import dns.message
import dns.rdata

from dnstrail.dns.header import HEADER
from dnstrail.errors import BadMessage

#: records of one message in `event.dns` and `proto_dns` -> `event.dns` is None, `event.dns_error` names the reason;
#: `proto_dns` has the first records, and `proto_dns_error`
MAX_RECORDS = 512
#: reads of labels and fields of one message for `event.dns` -> `event.dns` is None, and `event.dns_error` names the
#: reason
MAX_READS = 6_000  # dnspython takes up to 9 us for each of them
#: bytes of RDATA of one message in presentation form -> further records have the generic form (RFC 3597)
MAX_TEXT = 1_536  # a byte of an NSEC record makes eight words
_MAX_PAIRS = 4_096  # pairs of class and type that dnspython holds


class TextBudget:
    """The bytes of RDATA of one message that can still be written in presentation form."""

    def __init__(self) -> None:
        self.left = MAX_TEXT

    def spend(self, size: int) -> bool:
        """Spend a number of bytes, and return whether the budget had as many."""
        enough = size <= self.left
        self.left -= size if enough else 0
        return enough


class MeteredMessage(bytes):
    """The bytes of a message, which can be read a limited number of times.

    dnspython takes each label, pointer, field and string of a message by one slice of its bytes. It follows the
    pointers of every name anew, so its work depends on these reads and not on the size of the message.
    """

    reads_left: int

    def __new__(cls, wire: bytes, reads: int) -> Self:
        """Return the bytes of a message that can be read `reads` times."""
        metered = super().__new__(cls, wire)
        metered.reads_left = reads
        return metered

    def __getitem__(self, key: Any) -> Any:
        """Return one byte or a slice.

        Raises:
            BadMessage: the message was read too often.
        """
        self.reads_left -= 1
        if self.reads_left < 0:
            raise BadMessage("the message takes too many reads")
        return super().__getitem__(key)


def read_whole_message(wire: bytes) -> tuple[dns.message.Message | None, str]:
    """Return a message, and the reason why there is none ("" if there is one).

    A damaged message holds the records before the damage. A message with more than MAX_RECORDS records, or that takes
    more than MAX_READS reads, is not parsed to its end.
    """
    records = sum(int.from_bytes(wire[at : at + 2]) for at in range(4, HEADER, 2))
    if records > MAX_RECORDS:
        return None, f"{records} records; at most {MAX_RECORDS} are parsed"
    load_types()
    metered = MeteredMessage(wire, MAX_READS)
    try:
        message = dns.message.from_wire(metered, ignore_trailing=True, continue_on_error=True, one_rr_per_rrset=True)
    except (dns.exception.DNSException, BadMessage, ValueError) as error:
        return None, str(error)
    finally:
        _forget_unknown_types()
    if metered.reads_left < 0:
        return None, f"the message takes more than {MAX_READS} reads"
    message.wire = wire
    return message, ""


@cache
def load_types() -> None:
    """Import the modules of all types: dnspython otherwise looks for a module whenever it meets an unknown type."""
    dns.rdata.load_all_types()  # type: ignore[no-untyped-call] # dnspython has no types for it


def _forget_unknown_types() -> None:
    """Bound the table in which dnspython notes each pair of class and type that it meets."""
    pairs = dns.rdata._rdata_classes  # noqa: SLF001 - dnspython has no bound for it
    if len(pairs) > _MAX_PAIRS:
        for pair in [pair for pair, kind in pairs.items() if kind is dns.rdata.GenericRdata]:
            del pairs[pair]
