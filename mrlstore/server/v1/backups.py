"""Backups of an index: stores of their own in `.backups/INDEX/NAME.mrl` below the folder of the stores.

What clients have said of the index, and its local model, lie beside: `NAME.index.json`, `NAME.lsa.npz`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import mrlstore
from mrlstore.errors import CorruptStore, InvalidInput, MrlStoreError
from mrlstore.server.bodies import dump, parse_object
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import IndexFacts, IndexRoot
from mrlstore.server.operations import Answer
from mrlstore.server.refusals import HttpRefusal, not_found
from mrlstore.server.v1.call_arguments import require_all_namespaces
from mrlstore.server.v1.jobs import Report, Work
from mrlstore.system.whole_file import whole_file

_FOLDER: Final = ".backups"
_STORE: Final = ".mrl"
_FACTS: Final = ".index.json"
_MODEL: Final = ".lsa.npz"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Backups:
    """What the routes about backups do."""

    def __init__(self, root: IndexRoot) -> None:
        self._root = root

    def list(self, call: HttpCall, body: bytes) -> Answer:
        """GET /v1/indexes/INDEX/backups: also of an index that has been deleted since."""
        require_all_namespaces(call)
        folder = self._folder(call)
        names = sorted(place.name.removesuffix(_STORE) for place in folder.glob(f"*{_STORE}"))
        return Answer(dump({"backups": [self._described(folder, name) for name in names]}))

    def create(self, call: HttpCall, body: bytes) -> Work:
        """POST /v1/indexes/INDEX/backups: the present content, whole and synced when this is answered."""
        require_all_namespaces(call)
        folder, index = self._folder(call), str(call.scope["path_params"]["index"])
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
        name = _checked(parse_object(body).get("name", moment))

        def work(report: Report) -> dict[str, Any]:
            def copy(store: mrlstore.Store) -> None:
                folder.mkdir(parents=True, exist_ok=True)
                store.backup(folder / f"{name}{_STORE}", report)
                with whole_file(folder / f"{name}{_FACTS}") as file:
                    file.write(json.dumps(asdict(self._root.facts(index))).encode())
                _copy_model(self._root.path / index, folder / name)

            self._root.run(index, lambda served: copy(served.store))
            return self._described(folder, name)

        return work

    def restore(self, call: HttpCall, body: bytes) -> Work:
        """POST /v1/indexes/INDEX/backups/NAME/restore: a new index with the content of a backup."""
        require_all_namespaces(call)
        place, target = self._found(call), parse_object(body).get("index")
        if not isinstance(target, str):
            raise InvalidInput("index: expected the name of the new index")
        call.require_index(target)

        def copy(new: Path) -> None:
            with mrlstore.open(place, mode="r") as backup:
                backup.backup(new)
            _copy_model(_without_ending(place), _without_ending(new))

        def work(report: object) -> dict[str, Any]:
            self._root.make(target, _facts_of(place), copy)
            return {"index": target}

        return work

    def delete(self, call: HttpCall, body: bytes) -> Answer:
        """DELETE /v1/indexes/INDEX/backups/NAME."""
        require_all_namespaces(call)
        place = self._found(call)
        doomed = place.with_name(f".{place.name}.deleted")
        shutil.rmtree(doomed, ignore_errors=True)
        os.rename(place, doomed)  # from here on it is not a backup
        shutil.rmtree(doomed, ignore_errors=True)
        for ending in (_FACTS, _MODEL):
            place.with_name(f"{place.name.removesuffix(_STORE)}{ending}").unlink(missing_ok=True)
        return Answer()

    def _folder(self, call: HttpCall) -> Path:
        index = str(call.scope["path_params"]["index"])
        call.require_index(index)
        return self._root.path / _FOLDER / _checked(index)

    def _found(self, call: HttpCall) -> Path:
        name = _checked(call.scope["path_params"]["name"])
        place = self._folder(call) / f"{name}{_STORE}"
        if not (place / "catalogue.db").is_file():
            raise not_found(f"there is no backup {name!r}")
        return place

    def _described(self, folder: Path, name: str) -> dict[str, Any]:
        place = folder / f"{name}{_STORE}"
        try:
            with mrlstore.open(place, mode="r") as store:
                stats = store.stats()
        except (MrlStoreError, OSError) as error:
            return {"name": name, "error": type(error).__name__}
        made = datetime.fromtimestamp(os.stat(place).st_mtime, UTC).isoformat(timespec="seconds")
        return {"name": name, "made": made, "rows": stats.rows, "bytes_on_disk": stats.bytes_on_disk}


def _without_ending(place: Path) -> Path:
    return place.with_name(place.name.removesuffix(_STORE))


def _facts_of(backup: Path) -> IndexFacts:
    """What clients had said of the index; the defaults where that was not kept."""
    try:
        kept = backup.with_name(f"{_without_ending(backup).name}{_FACTS}").read_text(encoding="utf-8")
        return IndexFacts(**json.loads(kept))
    except FileNotFoundError:
        return IndexFacts()
    except (ValueError, TypeError) as error:
        raise CorruptStore(backup, f"what was kept of its index cannot be read: {error}") from error


def _copy_model(source: Path, target: Path) -> None:
    """Copy the local model of an index, where it has one; paths without endings."""
    model = source.with_name(f"{source.name}{_MODEL}")
    if model.exists():
        shutil.copyfile(model, target.with_name(f"{target.name}{_MODEL}"))


def _checked(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise HttpRefusal(
            400,
            "INVALID_ARGUMENT",
            f"name: {name!r:.80} cannot be one: letters, digits, dashes, dots; up to 100",
        )
    return name
