"""The verdict about a report: what the allow list does not contain, and what `--fail-on` names; and a list from it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import ip_address

import msgspec

from dnstrail_run.allow_list import DNS, ENTRY_TYPES, NAME, RESOLVER, UNCHECKED, AllowList, Ports, entry_of
from dnstrail_run.enforce.refusals import ASK, BIND, REACH, STATE, UNREADABLE, UNSTATED
from dnstrail_run.enforce.refusals import NAME as NAME_UNLISTED
from dnstrail_run.enforce.refusals import TYPE as TYPE_UNLISTED
from dnstrail_run.report import REFUSED, ReachedAddress, Refusal, RunReport

_DNS_OVER_TLS, _HTTPS = 853, 443  # RFC 7858 and RFC 9250; RFC 8484
_UDP = "udp"
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
OBJECTION = 10  #: exit: `--allow` or `--fail-on` object; the report names the reason
UNNAMED, REFUSALS, FOREIGN_DNS = REASONS = ("unnamed", "refused", "foreign-dns")
_CONNECTION_REFUSED = "ECONNREFUSED"


def objects(report: RunReport) -> bool:
    """Return whether a report objects to the command."""
    return bool(report.not_allowed or report.failed)


def judged_part(report: RunReport) -> RunReport:
    """Return a report with the containers as parts of the command, if they are followed."""
    if not report.followed:
        return report
    connections = [*report.connections, *(one for container in report.containers for one in container.connections)]
    return msgspec.structs.replace(
        report,
        names=[*report.names, *(one for container in report.containers for one in container.names)],
        connections=connections,
        unnamed=[one for one in connections if is_unnamed(one)],
        foreign_dns=[*report.foreign_dns, *(one for container in report.containers for one in container.foreign_dns)],
    )


def not_allowed(report: RunReport, allowed: AllowList) -> list[str]:
    """Return what a command asked or reached that a list does not contain, each once, in order."""
    unasked = {one.name for one in report.refused if one.action == ASK}
    found = [
        f"asked {one.name}" for one in report.names if not allowed.allows_name(one.name) and one.name not in unasked
    ]
    found += [
        f"reached {end_of(one)}" for one in report.connections if not allowed.allows(one.name, one.address, one.port)
    ]
    found += [
        f"asked the server {_end(one.address, one.port)}"
        for one in report.foreign_dns
        if not allowed.allows("", one.address, one.port)
    ]
    found += [f"tried to {attempt_of(one)}: {reason_of(one, allowed, report)}" for one in report.refused]
    found += [f"received conflicting answers for {one.name}" for one in report.conflicts]
    return list(dict.fromkeys(found))


def failures(report: RunReport, reasons: Collection[str]) -> list[str]:
    """Return what a command did of that which `--fail-on` names."""
    found = []
    if UNNAMED in reasons:
        found += [f"unnamed: {end_of(one)}" for one in report.unnamed]
    if REFUSALS in reasons:
        found += [f"refused: the name {one.name}" for one in report.names if one.outcome == REFUSED]
        found += [f"refused: {end_of(one)}" for one in report.connections if _CONNECTION_REFUSED in one.results]
    if FOREIGN_DNS in reasons:
        found += [f"foreign DNS: {_end(one.address, one.port)}" for one in report.foreign_dns]
    return list(dict.fromkeys(found))


def learned(report: RunReport, *, domains: bool = False) -> Iterator[str]:
    """Yield the lines of an allow list that contains what a command asked and reached.

    It contains nothing else, or (`domains`) all names below the same registered domains.
    """
    yield "# Made by dnstrail run --allow-learn. Read it before you use it."
    resolvers = {one.address for one in report.foreign_dns if one.port == DNS}
    yield from (f"{RESOLVER} {address}" for address in sorted(resolvers))
    entry = _domain_entry if domains else str
    ports: dict[str, set[int]] = {entry(one.name): set() for one in report.names}
    connections = [one for one in report.connections if one.port != DNS or one.address not in resolvers]
    servers = [one for one in report.foreign_dns if one.port != DNS]
    addresses = {bracketed(one.address) for one in servers}
    addresses |= {bracketed(one.address) for one in connections if not one.name}
    for reached in connections:
        ports.setdefault(entry(reached.name) or bracketed(reached.address), set()).add(reached.port)
    for server in servers:
        ports.setdefault(bracketed(server.address), set()).add(server.port)
    types: dict[str, set[str]] = {}
    for one in report.names:
        types.setdefault(entry(one.name), set()).update(ENTRY_TYPES.intersection(one.types))
    for subject, reached_ports in sorted(ports.items()):
        if subject not in addresses and not _is_usual(subject.removeprefix("*.")):
            yield f"# left out, since it is no usual name: {subject!a}"
        else:
            numbered = f":{','.join(map(str, sorted(reached_ports)))}" if reached_ports else ""
            yield entry_of(subject, numbered, sorted(types.get(subject, ())))


def _is_usual(name: str) -> bool:
    """Return whether a name can be an entry, and is not taken for an address."""
    return NAME.fullmatch(name) is not None and not name.replace(".", "").isdigit()


def _domain_entry(name: str) -> str:
    """Return the entry for all names below the registered domain of a name; the name itself if it is not below one."""
    from dnstrail.registered_domain import registered_domain  # it reads the list of suffixes, a fifth of a start

    domain = registered_domain(name) if NAME.fullmatch(name) else ""
    return f"*.{domain}" if domain and domain != name else name


def is_unnamed(reached: ReachedAddress) -> bool:
    """Return whether a connection has no name, and leaves this host."""
    return not reached.name and not ip_address(reached.address).is_loopback


def end_of(reached: ReachedAddress) -> str:
    """Return a connection as text: its name, address, port and transport."""
    end = f"{_end(reached.address, reached.port)}/{reached.transport}"
    return f"{reached.name} ({end})" if reached.name else end


def attempt_of(refused: Refusal) -> str:
    """Return a refusal as text: what was tried."""
    if refused.action == ASK:
        subject = " ".join(filter(None, [refused.name, refused.type])) or "something"
        return f"ask {subject} of {_end(refused.address, refused.port)}/{refused.transport}"
    if not refused.address:
        return f"open a socket of {refused.transport}"
    end = f"{_end(refused.address, refused.port)}/{refused.transport}"
    if refused.action == STATE and refused.reason != UNSTATED:
        return f"reach {end} as {refused.name or 'this name'}"
    action, without = (REACH, " without a name") if refused.action == STATE else (refused.action, "")
    return f"{action} {refused.name} ({end}){without}" if refused.name else f"{action} {end}{without}"


def bracketed(address: str) -> str:
    """Return an address as an entry of a list: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def _end(address: str, port: int) -> str:
    return f"{bracketed(address)}:{port}"


def is_encrypted_dns(reached: ReachedAddress) -> bool:
    """Return whether a connection carries encrypted DNS, as far as its ends show it."""
    if reached.port == _DNS_OVER_TLS:
        return True
    return reached.port == _HTTPS and not _RESOLVERS.isdisjoint((reached.name, reached.address))


def reason_of(refused: Refusal, allowed: AllowList, report: RunReport) -> str:
    """Return the rule that refused an attempt."""
    if refused.action == ASK:
        return _why_unasked(refused)
    if refused.action == STATE:
        return _why_unstated(refused, allowed)
    return _why_refused(refused, allowed, report)


def _why_refused(refused: Refusal, allowed: AllowList, report: RunReport) -> str:
    if refused.action == BIND:
        return "port 53 is refused as the own one, since the command could answer itself"
    if refused.action != REACH:
        return "only sockets of TCP and UDP are allowed"
    by_name = [*allowed.ports_of(refused.name)] if refused.name else []
    if _have(by_name, refused.port):
        return _without_answer(refused, report)
    address = ip_address(refused.address)
    ports = sorted(set().union(*by_name, *(ports for network, ports in allowed.networks if address in network)))
    subject = refused.name if by_name else refused.address
    if ports:
        return f"the list has {subject} on {_numbers(ports)}, and not on {refused.port}"
    if refused.port == DNS:
        return f"{refused.address} is no configured resolver, and the list has no entry `{RESOLVER} {refused.address}`"
    return (
        f"the list has neither {refused.name} nor {refused.address}" if refused.name else f"the list has no {subject}"
    )


def _why_unasked(refused: Refusal) -> str:
    """Return why a question did not leave."""
    if refused.reason == UNREADABLE:
        return "it is not exactly one plain question, which carries nothing else"
    if refused.reason == NAME_UNLISTED:
        return f"the list has no {refused.name}"
    if refused.reason == TYPE_UNLISTED:
        return f"the entry of {refused.name} does not have the type {refused.type}"
    return f"the entry of {refused.name} has other resolvers"


def _why_unstated(refused: Refusal, allowed: AllowList) -> str:
    """Return why a connection to the address of an allowed name was ended."""
    if refused.reason == UNSTATED and refused.transport == _UDP:
        return f"no name is read over UDP; an entry with the word `{UNCHECKED}` needs none"
    if refused.reason == UNSTATED:
        return f"it began with no whole ClientHello or HTTP header; an entry with the word `{UNCHECKED}` needs none"
    if not allowed.allows_name(refused.name):
        return f"the list has no {refused.name}"
    if not _have([*allowed.ports_of(refused.name)], refused.port):
        return f"the list does not have {refused.name} on port {refused.port}"
    return f"{refused.name} is in the list, but no answer of a resolver led to this address"


def _without_answer(refused: Refusal, report: RunReport) -> str:
    """Return why a name that the list has led nowhere."""
    if any(conflict.name == refused.name for conflict in report.conflicts):
        return f"the answers for {refused.name} conflict"
    text = f"{refused.name} is in the list, but no answer of a resolver led to this address"
    servers = sorted({one.address for one in report.foreign_dns if one.port == DNS})
    if not servers:
        return text
    entries = " or ".join(f"`{RESOLVER} {server}`" for server in servers)
    return f"{text}. The command asked {', '.join(servers)}: the entry {entries} makes its answers count"


def _have(entries: list[Ports], port: int) -> bool:
    return any(not ports or port in ports for ports in entries)


def _numbers(ports: list[int]) -> str:
    return f"{'port' if len(ports) == 1 else 'ports'} {','.join(map(str, ports))}"
