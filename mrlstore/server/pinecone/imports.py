"""Bulk imports: Parquet files of a folder of the server are read into an index, in a thread of one worker.

The state of an import is a file beside the index, which every worker reads. The worker that runs it holds a
lock on a file of its own: where nobody does, an import that has not ended was cut short with its worker.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from mrlstore.errors import MrlStoreError
from mrlstore.exchange import import_rows
from mrlstore.server.bodies import dump, parse_object, shown
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import ServedIndex
from mrlstore.server.operations import Answer, Serving
from mrlstore.server.pinecone.row_fields import space_of
from mrlstore.server.refusals import HttpRefusal, invalid, not_found
from mrlstore.system.whole_file import whole_file

_LOG: Final = logging.getLogger("mrlstore.server")
_RUNNING: Final = ("Pending", "InProgress")


@dataclass(frozen=True)
class ImportState:
    """An import as clients see it; the names are those of the API."""

    id: str
    uri: str
    status: str
    createdAt: str  # noqa: N815
    finishedAt: str | None = None  # noqa: N815
    percentComplete: float = 0.0  # noqa: N815
    recordsImported: int = 0  # noqa: N815
    error: str | None = None

    def ended(self, status: str, error: str | None = None) -> ImportState:
        """The same import, at its end."""
        return replace(self, status=status, finishedAt=_now(), error=error)


class NamespaceFile(NamedTuple):
    """A Parquet file, and where its rows go."""

    namespace: str
    path: Path


class _Cancelled(Exception):
    """The import was cancelled, or the server is being stopped."""


class Imports:
    """What the routes below `/bulk/imports` do."""

    def __init__(self, serving: Serving) -> None:
        self._serving, self._root = serving, serving.root
        self._one = threading.Lock()  # imports of one worker run one after the other
        serving.at_close(self._stop)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """POST /bulk/imports: begins to read a folder, and answers at once with the import's id."""
        given = parse_object(body)
        if call.grant.namespaces is not None:
            raise HttpRefusal(403, "PERMISSION_DENIED", "an import takes a key that opens all namespaces")
        if index.facts.metric != "cosine":
            raise invalid(f"imports are offered for the metric cosine, and not for {index.facts.metric}")
        mode = given.get("errorMode") or {}
        on_error = mode.get("onError", "continue") if isinstance(mode, dict) else None
        if on_error not in ("continue", "abort"):
            raise invalid(f"errorMode: expected onError to be continue or abort, got {shown(mode)}")
        files = files_of(given.get("uri"), self._serving.config.import_root)
        with self._root.changing():
            folder = self._folder(index.name)
            folder.mkdir(parents=True, exist_ok=True)
            number = 1 + max((int(path.stem) for path in folder.glob("*.json")), default=0)
            state = ImportState(str(number), str(given["uri"]), "Pending", _now())
            self._write(index.name, state)
            lock = os.open(
                self._file(index.name, state.id, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666
            )
            fcntl.flock(lock, fcntl.LOCK_EX)  # until the thread has ended, or this process
        arguments = (index.name, state, files, on_error == "abort", lock)
        thread = threading.Thread(target=self._run, args=arguments, name="mrlstore-import")
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()
        return Answer(dump({"id": state.id}))

    def list_all(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """GET /bulk/imports: all of the index, the newest first."""
        numbers = sorted((int(path.stem) for path in self._folder(index.name).glob("*.json")), reverse=True)
        return Answer(dump({"data": [asdict(self._state(index.name, str(number))) for number in numbers]}))

    def describe(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """GET /bulk/imports/ID."""
        return Answer(dump(asdict(self._state(index.name, _id(call)))))

    def cancel(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """DELETE /bulk/imports/ID: it ends after the batch that it is at; what was stored stays."""
        state = self._state(index.name, _id(call))
        if state.status in _RUNNING:
            self._file(index.name, state.id, ".cancel").touch()
        return Answer()

    def _run(
        self, name: str, state: ImportState, files: Sequence[NamespaceFile], strict: bool, lock: int
    ) -> None:
        """Read the files in their order, and note how far it is after each."""
        try:
            with self._one:
                self._write(name, state := replace(state, status="InProgress"))
                for at, file in enumerate(files):
                    self._check_goes_on(name, state.id)
                    count = state.recordsImported + self._read(name, state.id, file, strict)
                    share = 100 * (at + 1) / len(files)
                    self._write(name, state := replace(state, recordsImported=count, percentComplete=share))
                state = state.ended("Completed")
        except _Cancelled:
            stopped = "the server was stopped: start the import again" if self._stopping.is_set() else None
            state = state.ended("Failed" if stopped else "Cancelled", stopped)
        except (MrlStoreError, HttpRefusal, ImportError, OSError) as error:
            _LOG.warning("%s: import %s failed: %s", name, state.id, error)
            place = str((self._serving.config.import_root or Path()).resolve())
            state = state.ended("Failed", str(error).replace(place, "..."))
        finally:
            if self._root.exists(name):
                self._write(name, state)
            os.close(lock)

    def _read(self, name: str, id: str, file: NamespaceFile, strict: bool) -> int:
        """Import one file; gives how many rows were stored."""

        def read(index: ServedIndex) -> int:
            done = import_rows(
                index.store,
                file.path,
                namespace=file.namespace,
                strict=strict,
                names={"vector": "values"},
                omit=("sparse_values",),
                progress=lambda _: self._check_goes_on(name, id),
            )
            return done.written

        return self._root.run(name, read)

    def _check_goes_on(self, name: str, id: str) -> None:
        if self._stopping.is_set() or self._file(name, id, ".cancel").exists():
            raise _Cancelled

    def _stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _state(self, name: str, id: str) -> ImportState:
        try:
            state = ImportState(**json.loads(self._file(name, id, ".json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise not_found(f"there is no import {id!r:.40}") from None
        if state.status in _RUNNING and not _is_held(self._file(name, id, ".lock")):
            state = ImportState(**json.loads(self._file(name, id, ".json").read_text(encoding="utf-8")))
            if state.status in _RUNNING:
                return replace(state, status="Failed", error="its worker has ended: start the import again")
        return state

    def _write(self, name: str, state: ImportState) -> None:
        with whole_file(self._file(name, state.id, ".json")) as file:
            file.write(json.dumps(asdict(state)).encode())

    def _folder(self, name: str) -> Path:
        return self._root.beside(name, "imports")

    def _file(self, name: str, id: str, suffix: str) -> Path:
        return self._folder(name) / f"{id}{suffix}"


def files_of(uri: object, import_root: Path | None) -> list[NamespaceFile]:
    """The namespaces and Parquet files of a folder: those in a folder of their own belong to its namespace.

    Args:
        uri: `file:///folder`, or the path of a folder below `import_root`.
        import_root: the only folder that is read from; None: imports are off.

    Raises:
        HttpRefusal: 400, there is nothing to import at that place, or it may not be read.
    """
    if import_root is None:
        raise invalid("imports are off: start the server with --import-root, the folder that may be read")
    if not isinstance(uri, str) or not uri:
        raise invalid(f"uri: expected the place of a folder, got {shown(uri)}")
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        raise invalid(f"uri: {uri!r:.200}: only folders of the server are read, such as file:///data/papers")
    base = import_root.resolve()
    folder = (base / unquote(parts.path)).resolve()
    if not folder.is_relative_to(base) or not folder.is_dir():
        raise invalid(f"uri: {uri!r:.200} is not a folder below the one that may be read")
    found = [NamespaceFile("", path) for path in sorted(folder.glob("*.parquet"))]
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        found += [NamespaceFile(space_of(inner.name), path) for path in sorted(inner.glob("*.parquet"))]
    found = [file for file in found if file.path.resolve().is_relative_to(base)]
    if not found:
        raise invalid(f"uri: {uri!r:.200} has no Parquet files, nor have its folders, one for each namespace")
    return found


def _id(call: HttpCall) -> str:
    id = str(call.scope["path_params"]["id"])
    if not id.isascii() or not id.isdecimal() or len(id) > 18:
        raise not_found(f"there is no import {id!r:.40}")
    return id


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
