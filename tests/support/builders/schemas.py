"""The published schemas of ECS and OCSF, and documents compared with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parents[2] / "findings/schemas"
ECS_OWN = "dnstrail."  # the fields that ECS does not have
KINDS = {"string": str, "number": (int, float), "boolean": bool, "object": (dict, list)}
TYPES = {
    "string_t": str,
    "integer_t": int,
    "long_t": int,
    "timestamp_t": int,
    "boolean_t": bool,
    "port_t": int,
    "hostname_t": str,
    "ip_t": str,
    "file_path_t": str,
    "file_name_t": str,
    "process_name_t": str,
    "username_t": str,
}


@cache
def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def leaves(value: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a document by their dotted names."""
    for key, each in value.items():
        name = f"{path}{key}"
        if isinstance(each, dict) and schema("ecs-9.4.0")["fields"].get(name) != "object":
            yield from leaves(each, f"{name}.")
        else:
            yield name, each


def check_ocsf(value: dict[str, Any], kind: dict[str, Any], path: str) -> None:
    """Compare an object with its entry in the schema: names, types, arrays, enums, and what is required."""
    attributes = kind["attributes"]
    assert value.keys() <= attributes.keys(), path
    assert {name for name, attribute in attributes.items() if attribute.get("required")} <= value.keys(), path
    if "at_least_one" in kind:
        assert value.keys() & set(kind["at_least_one"]), path
    for name, each in value.items():
        attribute = attributes[name]
        assert isinstance(each, list) == attribute.get("array", False), f"{path}.{name}"
        for one in each if isinstance(each, list) else [each]:
            check_ocsf_value(one, attribute, f"{path}.{name}")


def check_ocsf_value(value: Any, attribute: dict[str, Any], path: str) -> None:
    if "enum" in attribute:
        assert value in attribute["enum"], path
    if attribute["type"] in TYPES:
        assert isinstance(value, TYPES[attribute["type"]]), path
    elif attribute["type"] == "object":
        assert isinstance(value, dict), path
    else:
        check_ocsf(value, schema("ocsf-1.8.0")["objects"][attribute["type"]], path)


def check_ecs(document: dict[str, Any]) -> None:
    """Compare a document with the schema: names and types, except of its own fields."""
    fields = schema("ecs-9.4.0")["fields"]
    for name, value in leaves(document):
        if name.startswith(ECS_OWN):
            continue
        assert name in fields, name
        if fields[name] == "strings":
            assert all(isinstance(one, str) for one in ([value] if isinstance(value, str) else value)), name
        else:
            assert isinstance(value, KINDS[fields[name]]), name
