"""Creating a store, and finding out what is at a path.

A store is made inside the folder that is to hold it, which keeps its mode and owner. One process at a time
does so, holding a lock on the folder. The catalogue is made in a draft folder within, and moved to its place
last, when everything else is synced; with it the folder is a store. A draft without a catalogue beside it was
left by a process that died: the next one removes what that has left, and begins again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from mrlstore.catalogue import Catalogue
from mrlstore.catalogue.identity import LOCK
from mrlstore.catalogue.keywords import DEFAULT_TOKENIZER
from mrlstore.catalogue.schema import FORMAT_VERSION
from mrlstore.errors import (
    CorruptStore,
    InvalidInput,
    MrlStoreError,
    StoreExists,
    StoreLocked,
    StoreNotFound,
)
from mrlstore.storage.session import CATALOGUE, PARTS
from mrlstore.system import late
from mrlstore.system.files import (
    Files,
    SyncFailed,
    make_parents,
    refuse_remote,
    remove_tree,
    storage_error,
    write_file,
)
from mrlstore.types import GraphBuilder, Settings, Tokenizer

Mode = Literal["r", "r+", "a", "x"]
_DRAFT: Final = re.compile(r"\.tmp-[0-9a-f]{32}")
_WAIT_S: Final = 30.0  # while another process makes the store, which takes some 20 ms


def ensure(files: Files, path: Path, mode: Mode, wanted: Settings) -> None:
    """Make sure that there is a store at `path`, as `mode` allows: r and r+ never create, x must."""
    files.guard(path)
    there = _look(files, path)
    refuse_remote(path if there != "absent" else _nearest(Path(os.path.realpath(path))))
    if there == "store":
        if mode == "x":
            raise StoreExists(f"{path} is a store already")
        if mode != "r":
            _remove_drafts(files, path)
        return
    if mode in ("r", "r+"):
        raise StoreNotFound(f"{path}: there is no store here")
    if not _create(files, path, wanted) and mode == "x":
        raise StoreExists(f"{path} was created by another process at the same moment")


def new_settings(
    dim: int | None,
    prefix_dim: int | None,
    m: int,
    ef_construction: int,
    tokenizer: Tokenizer | None,
    graph: GraphBuilder | None,
) -> Settings:
    """The settings of a store to be made."""
    words, builder = tokenizer or DEFAULT_TOKENIZER, graph or "mrlstore"
    return Settings(
        late.uuid.uuid4().hex, FORMAT_VERSION, dim, prefix_dim, m, ef_construction, words, builder
    )


def typed(error: OSError, path: Path) -> MrlStoreError:
    """The typed error for what the system said while a store was looked for or made."""
    if isinstance(error, FileExistsError):
        return StoreExists(f"{path}: something is there that is not a store ({error.strerror})")
    return storage_error(error, f"opening {path}")


def _look(files: Files, path: Path) -> Literal["absent", "empty", "store"]:
    """What is at a path; what a process that died while making a store has left counts as empty."""
    try:
        names = files.list_dir(path)
    except FileNotFoundError:
        return "absent"
    except NotADirectoryError as error:
        there = path if path.exists() else _nearest(path)
        raise InvalidInput(f"{there} is a file; a store is a folder") from error
    if CATALOGUE not in names:
        if names and not _is_unfinished(files, path, names):
            raise CorruptStore(
                path, f"the folder is not empty and has no {CATALOGUE}: not a store, or a damaged one"
            )
        return "empty"
    if PARTS not in names or LOCK not in names:
        raise CorruptStore(path, f"{PARTS}/ or {LOCK} is missing: a damaged store")
    for name in names:
        _check_kind(files, path / name)
    return "store"


def _check_kind(files: Files, path: Path) -> None:
    """Refuse links in place of what a store consists of, and pipes, for which SQLite would wait for ever."""
    if path.name in (PARTS, LOCK) or path.name.startswith(CATALOGUE):
        if path.is_symlink():
            raise CorruptStore(path, "is a symbolic link, and none is followed in a store")
        if path.name.startswith(CATALOGUE) and files.is_strange(path):
            raise CorruptStore(path, "is not a file")


def _is_unfinished(files: Files, path: Path, names: Iterable[str]) -> bool:
    """Whether these are all that a process has left that died before it had made a store."""
    every = set(names)
    others = {name for name in every if not _DRAFT.fullmatch(name)}
    if others == every or not others <= {PARTS, LOCK}:
        return False
    return PARTS not in others or not files.list_dir(path / PARTS)


def _nearest(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())


def _create(files: Files, path: Path, new: Settings) -> bool:
    """Make the store; False if another process was faster."""
    path = Path(os.path.realpath(path))  # a link to where the store is to be
    files.guard(path)
    make_parents(files, path)
    while True:
        made = True
        try:
            files.make_dir(path)
            files.sync_dir(path.parent)
        except FileExistsError:
            made = False
        try:
            lock = files.lock(path, wait_s=_WAIT_S)
        except FileNotFoundError:
            continue  # whoever had made the folder could not make a store, and has removed it
        if lock is None:
            raise StoreLocked(f"{path}: another process has been creating the store for {_WAIT_S:g} s")
        with lock:
            if not lock.is_of(path):
                continue
            if _look(files, path) == "store":
                return False
            try:
                _clear(files, path)
                _build(files, path, new)
            except BaseException:
                with suppress(OSError, SyncFailed):
                    if CATALOGUE not in files.list_dir(path):
                        _clear(files, path)
                        if made:
                            files.remove_dir(path)
                raise
            return True


def _build(files: Files, path: Path, new: Settings) -> None:
    """Make a store in an empty folder."""
    draft = path / f".tmp-{late.uuid.uuid4().hex}"
    files.make_dir(draft)
    files.sync_dir(path)  # nothing else may be found without it
    files.make_dir(path / PARTS)
    write_file(files, path / LOCK, [])
    Catalogue.create(files, draft / CATALOGUE, new)
    for folder in (path / PARTS, draft, path):
        files.sync_dir(folder)
    files.rename(draft / CATALOGUE, path / CATALOGUE)
    files.sync_dir(path)
    with suppress(OSError):
        files.remove_dir(draft)


def _clear(files: Files, path: Path) -> None:
    """Remove what an attempt to make a store has left, the drafts last: they show that it may be removed."""
    names = files.list_dir(path)
    if PARTS in names:
        files.remove_dir(path / PARTS)
    if LOCK in names:
        files.unlink(path / LOCK)
    if PARTS in names or LOCK in names:
        files.sync_dir(path)
    for name in names:
        if _DRAFT.fullmatch(name):
            remove_tree(files, path / name)


def _remove_drafts(files: Files, path: Path) -> None:
    """Remove the draft of a process that died when it had made the store, and not yet removed the draft."""
    drafts = [name for name in files.list_dir(path) if _DRAFT.fullmatch(name)]
    with suppress(OSError):
        lock = files.lock(path) if drafts else None
        if lock is not None:
            with lock:
                for name in drafts:
                    remove_tree(files, path / name)
