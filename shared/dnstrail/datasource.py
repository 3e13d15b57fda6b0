"""Data sources: what signatures ask, found by (namespace, id); the contract is tracee's (types/detect)."""

from __future__ import annotations

from typing import Any, Protocol

from dnstrail.errors import SettingsError


class DataSource(Protocol):
    """Answers a key with a map whose shape `schema` tells."""

    def get(self, key: object) -> dict[str, Any]:
        """What is known under a key.

        Raises:
            DataNotFound: nothing is.
            KeyNotSupported: the key is of a type that is not in `keys`.
        """
        ...

    def schema(self) -> str:
        """The shape of an answer, as JSON."""
        ...

    def keys(self) -> list[str]:
        """The types of key that `get` takes."""
        ...

    def version(self) -> int:
        """The version of the schema."""
        ...

    def namespace(self) -> str:
        """Whose it is: "tracee" for those that tracee knows."""
        ...

    def id(self) -> str:
        """Its name within the namespace."""
        ...


class DataSources:
    """The registry: at most one data source for each (namespace, id)."""

    def __init__(self, *sources: DataSource) -> None:
        self._sources: dict[tuple[str, str], DataSource] = {}
        for source in sources:
            self.register(source)

    def register(self, source: DataSource) -> None:
        """Add a data source.

        Raises:
            SettingsError: there is one of this name already.
        """
        name = (source.namespace(), source.id())
        if name in self._sources:
            raise SettingsError(f"data source {'/'.join(name)} is registered already")
        self._sources[name] = source

    def get(self, namespace: str, id_: str) -> DataSource | None:
        """The data source of a name, or None."""
        return self._sources.get((namespace, id_))
