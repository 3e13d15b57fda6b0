"""Data sources for signatures, found by (namespace, id). The contract is tracee's (types/detect)."""

from __future__ import annotations

from typing import Any, Protocol

from dnstrail.errors import SettingsError
from dnstrail.protocol.lookups import SCHEMA


class DataSource(Protocol):
    """A source of data by key. Every result has the shape that `schema` describes."""

    def get(self, key: object) -> dict[str, Any]:
        """Return the data under a key.

        Raises:
            DataNotFound: there are no data under the key.
            KeyNotSupported: the key is of a type that is not in `keys`.
        """

    def schema(self) -> str:
        """Return the shape of a result as JSON."""

    def keys(self) -> list[str]:
        """Return the types of key that `get` accepts."""

    def version(self) -> int:
        """Return the version of the schema."""

    def namespace(self) -> str:
        """Return the namespace: "tracee" for the data sources of tracee."""

    def id(self) -> str:
        """Return the name within the namespace."""


class DnsIdentity:
    """The identity of the data source ("tracee", "dns"): what it states about itself."""

    def schema(self) -> str:
        """Return the shape of a result as JSON."""
        return SCHEMA

    def keys(self) -> list[str]:
        """Return the types of key that `get` accepts."""
        return ["string"]

    def version(self) -> int:
        """Return the version of the schema."""
        return 1

    def namespace(self) -> str:
        """Return the namespace, as in tracee."""
        return "tracee"

    def id(self) -> str:
        """Return the id, as in tracee."""
        return "dns"


class DataSources:
    """The registry of data sources. It holds at most one for each (namespace, id)."""

    def __init__(self, *sources: DataSource) -> None:
        self._sources: dict[tuple[str, str], DataSource] = {}
        for source in sources:
            self.register(source)

    def register(self, source: DataSource) -> None:
        """Add a data source.

        Raises:
            SettingsError: the registry holds a data source of this name.
        """
        name = (source.namespace(), source.id())
        if name in self._sources:
            raise SettingsError(f"data source {'/'.join(name)} is registered already")
        self._sources[name] = source

    def get(self, namespace: str, id_: str) -> DataSource | None:
        """Return the data source of a name, or None."""
        return self._sources.get((namespace, id_))
