"""The signatures that a worker runs, chosen by `--select` and the settings, and the events that they select."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from dnstrail.bus import Subscriber
from dnstrail.errors import SettingsError
from dnstrail.events import DERIVED, FACT_NAMES, NAMES, NET_PACKET_DNS, ORIGINS, PUBLISHED, SOURCE
from dnstrail.events import topics_of as topics_of_events
from dnstrail.process.config_file import ConfigFile
from dnstrail.protocol.batches import TURN
from dnstrail.signature import ANY, Signature
from dnstrail.tracee.event_shape import signature_ids
from dnstrail_signatures.loading.load import GROUP, Found, SignatureFile, find, load
from dnstrail_signatures.loading.signature_settings import Settings, enabled, sets, settings_of


class Chosen(NamedTuple):
    """The signatures to run, the event ids of all that were loaded, and their settings.

    `asked` are those that a user named: by `--select`, by a file of `--signatures`, or by a setting of their own.
    """

    classes: tuple[type[Signature], ...]
    ids: Mapping[str, int]
    settings: Settings
    asked: frozenset[type[Signature]] = frozenset()

    @property
    def followed(self) -> tuple[str, ...]:
        """The topics whose batches are counted."""
        return tuple(topic for topic in topics_of(self.classes) if topic != TURN)

    @classmethod
    def of(cls, *classes: type[Signature]) -> Chosen:
        """Return these signatures with their default settings."""
        return cls(classes, signature_ids(one.metadata for one in classes), {})


class Choice:
    """How a worker chooses its signatures. A file whose content is still the same keeps its classes in a reload."""

    def __init__(self, paths: Iterable[Path], names: tuple[str, ...], config: ConfigFile, group: str = GROUP) -> None:
        self._paths = tuple(paths)
        self._names = names
        self._config = config
        self._group = group
        self._loaded: dict[SignatureFile, list[type[Signature]]] = {}

    def find(self, owner: int | None) -> Found:
        """Find the signatures, and run none of them.

        Raises:
            SettingsError: A given file is missing, or others may write it.
        """
        return find(self._paths, owner, self._group)

    def choose(self, found: Found) -> Chosen:
        """Load what was found, and choose among it.

        Raises:
            SettingsError: A file does not load, a name of `--select` is unknown, or a setting is wrong.
        """
        return self._choose(found, self._config)

    def again(self) -> Chosen:
        """Read the settings and the signatures anew, and choose among them.

        Raises:
            SettingsError: as `find` and `choose` do.
        """
        config = self._config.again()
        chosen = self._choose(self.find(None), config)
        self._config = config
        return chosen

    def _choose(self, found: Found, config: ConfigFile) -> Chosen:
        loaded = {file: self._loaded[file] for file in found.files if file in self._loaded}
        classes = load(found, loaded)
        _check(self._names, classes)
        settings = settings_of(config, classes, self._names)
        chosen = enabled(classes, settings)
        self._loaded = loaded
        asked = {cls for file in found.files for cls in loaded[file]}
        asked |= {cls for cls in classes if cls.metadata.event_name in self._names or sets(config, cls)}
        ids = signature_ids(cls.metadata for cls in classes)
        return Chosen(tuple(chosen), ids, settings, frozenset(asked))


def _check(names: tuple[str, ...], classes: list[type[Signature]]) -> None:
    known = {cls.metadata.event_name for cls in classes}
    if unknown := set(names) - known:
        raise SettingsError(
            f"--select: no signature reports {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}"
        )


def topics_of(classes: Iterable[type[Signature]]) -> tuple[str, ...]:
    """Return the topics that these signatures need: those of the events that they select, and the ends of turns."""
    return (*topics_of_events(selected_names(classes)), TURN)


def subscribe_instead(subscriber: Subscriber, before: set[str], now: set[str]) -> bool:
    """Subscribe to other topics than before; return whether there are any."""
    for topic in now - before:
        subscriber.subscribe(topic)
    for topic in before - now:
        subscriber.unsubscribe(topic)
    return now != before


def selected_names(classes: Iterable[type[Signature]]) -> set[str]:
    """Return the names of the events that some of these signatures select.

    A wildcard selects no derived event, and no fact.
    """
    selectors = [selector for cls in classes for selector in cls.selected_events]
    selected = {selector.name for selector in selectors if selector.source in (*ANY, SOURCE)}
    wildcard = {*PUBLISHED}.difference(FACT_NAMES) if selected.intersection(ANY) else ()
    return selected.intersection(NAMES).union(wildcard)


def origins_of(classes: Iterable[type[Signature]], topic: str) -> frozenset[str]:
    """Return the origins of the events that some of these signatures select under a topic: "host", "container"."""
    names = {topic, *ANY, *(DERIVED if topic == NET_PACKET_DNS else ())}
    selectors = [selector for cls in classes for selector in cls.selected_events]
    chosen = {one.origin for one in selectors if one.source in (*ANY, SOURCE) and one.name in names}
    return frozenset(ORIGINS if chosen.intersection(ANY) else chosen)
