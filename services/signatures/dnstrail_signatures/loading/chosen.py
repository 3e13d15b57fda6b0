"""The signatures that a worker runs: chosen by `--select` and by the settings, at the start and for a reload."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from dnstrail.errors import SettingsError
from dnstrail.process.config_file import ConfigFile
from dnstrail.signature import Signature
from dnstrail.tracee import signature_ids
from dnstrail_signatures.loading.load import Found, SignatureFile, find, load
from dnstrail_signatures.loading.signature_settings import Settings, enabled, sets, settings_of


class Chosen(NamedTuple):
    """The signatures to run, the event ids of all that were loaded, and their settings.

    `asked` are those that a user named: by `--select`, by a file of `--signatures`, or by a setting of their own.
    """

    classes: tuple[type[Signature], ...]
    ids: Mapping[str, int]
    settings: Settings
    asked: frozenset[type[Signature]] = frozenset()

    @classmethod
    def of(cls, *classes: type[Signature]) -> Chosen:
        """Return these signatures with their default settings."""
        return cls(classes, signature_ids(one.metadata for one in classes), {})


class Choice:
    """How a worker chooses its signatures. A file whose content is still the same keeps its classes in a reload."""

    def __init__(self, paths: Iterable[Path], names: tuple[str, ...], config: ConfigFile) -> None:
        self._paths = tuple(paths)
        self._names = names
        self._config = config
        self._loaded: dict[SignatureFile, list[type[Signature]]] = {}

    def find(self, owner: int | None) -> Found:
        """Find the signatures, and run none of them.

        Raises:
            SettingsError: A given file is missing, or others may write it.
        """
        return find(self._paths, owner)

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
