"""The rule by which `--enforce` refused an attempt, as the report states it."""

from __future__ import annotations

from ipaddress import ip_address

from dnstrail_run.allow_list import DNS, RESOLVER, AllowList, Ports
from dnstrail_run.enforce.refusal import BIND, REACH
from dnstrail_run.report import Refusal, Report


def reason_of(refused: Refusal, allowed: AllowList, report: Report) -> str:
    """Return the rule that refused an attempt."""
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


def _without_answer(refused: Refusal, report: Report) -> str:
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
