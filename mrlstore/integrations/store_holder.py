"""`StoreHolder`: what the integrations share; each is made from an open store, or from a path."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import mrlstore
from mrlstore.api.store import Store
from mrlstore.errors import InvalidInput


class StoreHolder:
    """Holds a store, and closes it again if it was opened here."""

    if TYPE_CHECKING:  # otherwise pydantic, in LlamaIndex, would take them for fields of its own
        _store: Store
        _owned: bool

    def __init__(
        self, path_or_store: str | os.PathLike[str] | Store, *, namespace: str = "", **options: Any
    ) -> None:
        """Open or create the store.

        Args:
            path_or_store: a folder for `mrlstore.open`, or a store that is open already.
            namespace: the namespace all rows live in.
            options: what else `mrlstore.open` takes, for a path.
        """
        self._open(path_or_store, options)
        self._namespace, self._options = namespace, options

    def _open(self, path_or_store: str | os.PathLike[str] | Store, options: dict[str, Any]) -> None:
        """Take a store that is open, or open the one at a path.

        Raises InvalidInput for options beside a store that is open already, and as `mrlstore.open` does.
        """
        if not isinstance(path_or_store, Store):
            self._store, self._owned = mrlstore.open(path_or_store, **options), True
            return
        if options:
            raise InvalidInput(f"{', '.join(options)}: the store is open already; give them to mrlstore.open")
        self._store, self._owned = path_or_store, False

    @property
    def store(self) -> Store:
        """The store itself, for what the framework has no methods for."""
        return self._store

    def close(self) -> None:
        """Close the store if it was opened from a path here."""
        if self._owned:
            self._store.close()
