"""The settings of signatures: their tables in the settings file, checked (docs/reference/settings.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.process.config_file import FLEET_SIGNATURES, SIGNATURE, WATCH, ConfigFile
from dnstrail.signature import Signature
from dnstrail_signatures.loading.scope import Allow, CommonSettings, Mute, Only
from dnstrail_signatures.loading.watch_rule import MOST_RULES, TakesRules, WatchRule

T = TypeVar("T", bound=msgspec.Struct)


class SignatureSettings(msgspec.Struct, frozen=True):
    """The settings of one signature: those that all have, and its own."""

    common: CommonSettings = CommonSettings()
    own: msgspec.Struct | None = None


Settings = Mapping[str, SignatureSettings]  # by the id of the signature
_COMMON = CommonSettings.__struct_fields__
_OF_FINDINGS = {"severity", "allow", "only", "mute"}  # they apply to findings: none of them asks for a signature
_ENABLED = "enabled"  # a signature whose own settings have this field states its default there
_OF_FLEET = "FLEET_"  # begins the name of each signature of the fleet
_NESTED: dict[str, type[msgspec.Struct]] = {"allow": Allow, "only": Only, "mute": Mute}


def settings_of(config: ConfigFile, classes: Iterable[type[Signature]], selected: Collection[str] = ()) -> Settings:
    """Return the settings of all signatures, by id; a signature without a table has those of its class.

    A table has the name that findings show, or the id of the signature. If any are `selected`, by this name, these and
    no others are enabled.

    Raises:
        SettingsError: a table or a key is unknown, or a value is not accepted.
    """
    signatures = {cls.metadata.id: cls for cls in classes}
    names = {cls.metadata.event_name for cls in signatures.values()}
    for name in config.table(SIGNATURE):
        if name not in names and name not in signatures:
            if name.startswith(_OF_FLEET) and not any(known.startswith(_OF_FLEET) for known in names):
                raise config.refusal(name, f"a signature of the fleet: its table belongs in {FLEET_SIGNATURES}")
            raise config.unknown(name, names, SIGNATURE)
    return {id_: _settings_of(config, _table_of(config, cls), cls, selected) for id_, cls in signatures.items()}


def sets(config: ConfigFile, cls: type[Signature]) -> bool:
    """Return whether the settings file asks for a signature: it enables it, or states a setting or rule of its own."""
    own = set(config.table(SIGNATURE, _table_of(config, cls))) - _OF_FINDINGS
    return bool(own) or (isinstance(cls.settings, TakesRules) and bool(config.array(WATCH)))


def _table_of(config: ConfigFile, cls: type[Signature]) -> str:
    """Return the name of the table of a signature: the name that findings show, else its id.

    Raises:
        SettingsError: the file has both.
    """
    tables, one = config.table(SIGNATURE), cls.metadata
    if one.id not in tables or one.id == one.event_name:
        return one.event_name
    if one.event_name in tables:
        raise config.refusal(f"[{SIGNATURE}.{one.id}]", f"the same signature as [{SIGNATURE}.{one.event_name}]")
    return one.id


def is_on(cls: type[Signature]) -> bool:
    """Return whether a signature runs although no user names it."""
    return bool(getattr(cls.settings, "enabled", True))


def enabled(classes: Iterable[type[Signature]], settings: Settings) -> list[type[Signature]]:
    """Return the signatures that the settings do not disable."""
    return [cls for cls in classes if settings[cls.metadata.id].common.enabled]


def _settings_of(config: ConfigFile, id_: str, cls: type[Signature], selected: Collection[str]) -> SignatureSettings:
    table, default = config.table(SIGNATURE, id_), cls.settings
    fields = () if default is None else default.__struct_fields__
    if takes_rules := isinstance(default, TakesRules):
        fields = tuple(field for field in fields if field != WATCH)
    if reserved := set(fields).intersection(_COMMON) - {_ENABLED}:
        raise SettingsError(f"signature {id_}: its settings cannot be named {', '.join(sorted(reserved))}")
    _check_keys(config, (SIGNATURE, id_), (*_COMMON, *fields))
    for name, nested in _NESTED.items():
        _check_keys(config, (SIGNATURE, id_, name), nested.__struct_fields__)
    common = {_ENABLED: is_on(cls)} | {key: table[key] for key in _COMMON if key in table}
    if selected:
        common[_ENABLED] = cls.metadata.event_name in selected
    given = {key: table[key] for key in fields if key in table}
    place = f"[{SIGNATURE}.{id_}]"
    if default is not None and given:
        default = _convert(config, place, {**msgspec.to_builtins(default), **given}, type(default))
    if takes_rules and default is not None and (rules := _rules(config)):
        default = msgspec.structs.replace(default, watch=rules)
    return SignatureSettings(_convert(config, place, common, CommonSettings), default)


def _rules(config: ConfigFile) -> tuple[WatchRule, ...]:
    """Return the rules [[watch]].

    Raises:
        SettingsError: a key is unknown, a value is not accepted, two rules have one name, or there are too many.
    """
    rules: dict[str, WatchRule] = {}
    for number, table in enumerate(config.array(WATCH), 1):
        place = f"[[{WATCH}]] {number}"
        for key in table:
            if key not in WatchRule.__struct_fields__:
                raise config.unknown(key, WatchRule.__struct_fields__, f"[{WATCH}]")
        rule = _convert(config, place, table, WatchRule)
        if rule.name in rules:
            raise config.refusal(place, f"another rule has the name {rule.name!r}")
        rules[rule.name] = rule
    if len(rules) > MOST_RULES:
        raise config.refusal(f"[[{WATCH}]]", f"more than {MOST_RULES} rules")
    return tuple(rules.values())


def _check_keys(config: ConfigFile, table: tuple[str, ...], known: tuple[str, ...]) -> None:
    for key in config.table(*table):
        if key not in known:
            raise config.unknown(key, known, ".".join(table))


def _convert(config: ConfigFile, table: str, values: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        raise config.refusal(f"{table}{place.rstrip('`').replace('.', ' ', 1)}", text) from error
