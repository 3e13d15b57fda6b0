"""The connection in an event of another tool, as `trail_many` takes it: a function for each tool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from dnstrail_cli.enrich.values import address_of, container_of, port_of, process_of, time_of

Fields = dict[str, str | int]
Event = Mapping[str, Any]
ReadEvent = Callable[[Event], Fields | None]
_SOCKETS: Final = ("sock_arg", "skb_arg", "sockaddr_arg")  # of Tetragon
_NOTHING: Final[Mapping[str, Any]] = {}


def read_event(event: Event) -> Fields | None:
    """Return the connection in an event of a known tool; None if it has none, or its tool is unknown."""
    if "id.resp_h" in event:
        return _zeek(event)
    if "dest_ip" in event:
        return _suricata(event)
    if "output_fields" in event:
        return _falco(event)
    if "args" in event or "data" in event:
        return _tracee(event)
    return _tetragon(event)


def connection(
    address: object,
    port: object = None,
    client: object = None,
    source_port: object = None,
    process: object = None,
    container: object = None,
    time: object = None,
) -> Fields | None:
    """Return the fields of a connection, without those that are unknown; None without an address of the server."""
    server = address_of(address)
    if server is None:
        return None
    found: dict[str, str | int | None] = {
        "address": server,
        "port": port_of(port),
        "client": address_of(client),
        "source_port": port_of(source_port),
        "process": process_of(process),
        "container": container_of(container),
        "at_ns": time_of(time),
    }
    return {name: value for name, value in found.items() if value is not None}


def _zeek(event: Event) -> Fields | None:
    """Read a JSON line of any log with the fields of a connection (docs.zeek.org, logs/conn.html)."""
    client, source_port = event.get("id.orig_h"), event.get("id.orig_p")
    return connection(event["id.resp_h"], event.get("id.resp_p"), client, source_port, time=event.get("ts"))


def _suricata(event: Event) -> Fields | None:
    """Read a line of EVE (docs.suricata.io, output/eve/eve-json-format.html).

    The addresses of `flow` are those of its first packet. Without them a packet `to_client` comes from the server.
    """
    flow = _map(event.get("flow"))
    ends = flow if "dest_ip" in flow else event
    sides = ("src", "dest")
    if ends is event and event.get("direction") == "to_client":
        sides = ("dest", "src")
    client, server = sides
    return connection(
        ends.get(f"{server}_ip"),
        ends.get(f"{server}_port"),
        ends.get(f"{client}_ip"),
        ends.get(f"{client}_port"),
        time=flow.get("start") or event.get("timestamp"),
    )


def _falco(event: Event) -> Fields | None:
    """Read an alert with `json_output` whose rule prints fields of `fd` (falco.org, docs/reference/rules).

    Without `fd.sip` the server is the remote end, `fd.rip`, or the right end of `fd.name`.
    """
    fields = _map(event["output_fields"])
    server, port = fields.get("fd.sip"), fields.get("fd.sport")
    client, source_port = fields.get("fd.cip"), fields.get("fd.cport")
    if server is None and (name := fields.get("fd.name")) and isinstance(name, str):
        left, _, right = name.partition("->")
        client, _, source_port = left.rpartition(":")
        server, _, port = right.rpartition(":")
    if address_of(server) is None:
        server, port = fields.get("fd.rip"), fields.get("fd.rport")
        client, source_port = fields.get("fd.lip"), fields.get("fd.lport")
    moment = event.get("time") or fields.get("evt.time")
    return connection(
        server, port, client, source_port, fields.get("proc.pid"), fields.get("container.full_id"), moment
    )


def _tetragon(event: Event) -> Fields | None:
    """Read an event with a socket among its arguments (tetragon.io, docs/reference/grpc-api)."""
    seen = next((_map(value) for name, value in event.items() if name.startswith("process_")), _NOTHING)
    process = _map(seen.get("process"))
    container = _map(_map(process.get("pod")).get("container")).get("id")
    for argument in _maps(seen.get("args")):
        for kind in _SOCKETS:
            if kind in argument:
                socket = _map(argument[kind])
                return connection(
                    socket.get("daddr") or socket.get("addr"),
                    socket.get("dport") or socket.get("port"),
                    socket.get("saddr"),
                    socket.get("sport"),
                    process.get("pid"),
                    container,
                    event.get("time"),
                )
    return None


def _tracee(event: Event) -> Fields | None:
    """Read an event with `dst` or `remote_addr` (aquasecurity.github.io/tracee): the JSON of `trace.Event`, or v1beta1.

    The events of dnstrail itself have the first of these forms.
    """
    arguments = {}
    for one in _maps(event.get("args") or event.get("data")):
        arguments[str(one.get("name"))] = next((value for name, value in one.items() if name not in _NO_VALUE), None)
    server, port = arguments.get("dst"), arguments.get("dst_port")
    if server is None:
        server, port = _socket_address(arguments.get("remote_addr"))
    workload = _map(event.get("workload"))
    process = _map(workload.get("process"))
    pid = event.get("hostProcessId") or event.get("processId") or _host_pid(process)
    container = event.get("containerId") or _map(event.get("container") or workload.get("container")).get("id")
    client, source_port = arguments.get("src"), arguments.get("src_port")
    return connection(server, port, client, source_port, pid, container, _stamp(event.get("timestamp")))


_NO_VALUE: Final = ("name", "type")


def _socket_address(value: object) -> tuple[object, object]:
    """Return address and port of a `struct sockaddr` as tracee prints it, in either form."""
    found = {name.replace("_", "").lower(): each for name, each in _map(value).items()}
    return found.get("sinaddr") or found.get("sin6addr"), found.get("sinport") or found.get("sin6port")


def _host_pid(process: Event) -> object:
    pid = process.get("hostPid") or process.get("host_pid") or process.get("pid")
    return pid.get("value") if isinstance(pid, dict) else pid


def _stamp(value: object) -> object:
    """Return a time of tracee: v1beta1 may have it as seconds and nanoseconds."""
    if not isinstance(value, dict):
        return value
    seconds, nanos = value.get("seconds"), value.get("nanos", 0)
    return seconds * 1_000_000_000 + nanos if isinstance(seconds, int) and isinstance(nanos, int) else None


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _NOTHING


def _maps(value: object) -> Iterable[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else ()
