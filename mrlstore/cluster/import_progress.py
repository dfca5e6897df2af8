"""How far an import into a cluster has come, noted in its home, so that another call goes on from there."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from mrlstore.errors import CorruptStore, ObjectNotFound, StoreExists
from mrlstore.object_storage import ObjectStorage
from mrlstore.shared_log import HOME

_FOLDER: Final = "import"
_SOURCE: Final = f"{_FOLDER}/source.json"
_DONE: Final = f"{_FOLDER}/done.json"
_NOTES: Final = f"{_FOLDER}/notes"


class Reached(NamedTuple):
    """Up to which row the source has been copied."""

    cursor: str | None  # of the last row; None: none yet
    rows: int
    generation: int  # of the source, when it was read


class ImportProgress:
    """The notes of one import; each is an object that is created once."""

    def __init__(self, storage: ObjectStorage, store_uuid: str) -> None:
        self._storage, self._number = storage, 0
        self._source = json.dumps({"store_uuid": store_uuid}).encode()

    def begin(self) -> None:
        """Note of which store the rows are; StoreExists where the home has other rows, or all of these."""
        taken = self._storage.size(HOME) is not None or self._storage.size(_DONE) is not None
        if taken or not self._storage.create(_SOURCE, self._source):
            raise StoreExists(f"{self._storage.url}: there is a cluster already")

    def is_under_way(self) -> bool:
        """Whether an import of this store was begun here, and has not come to its end."""
        try:
            begun = self._storage.get(_SOURCE, 65_536) == self._source
        except ObjectNotFound:
            return False
        return begun and self._storage.size(HOME) is not None and self._storage.size(_DONE) is None

    def reached(self) -> Reached:
        """The newest note."""
        found = self._storage.list_objects(_NOTES)
        if not found:
            return Reached(None, 0, 0)
        name = found[-1].name
        self._number = int(name.rpartition("/")[2])
        try:
            return Reached(*json.loads(self._storage.get(name, 1 << 20)))
        except (ValueError, TypeError) as error:
            raise CorruptStore(
                f"{self._storage.url}/{name}", f"not a note of an import ({error!r})"
            ) from error

    def note(self, reached: Reached) -> None:
        """Note how far it has come, once the rows are acknowledged."""
        self._number += 1
        self._storage.create(f"{_NOTES}/{self._number:010}", json.dumps(reached).encode())

    def end(self) -> None:
        """Note that all is there."""
        self._storage.create(_DONE, self._source)
        self._storage.delete(one.name for one in self._storage.list_objects(_NOTES))
