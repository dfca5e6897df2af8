"""Creating a store, and finding out what is at a path.

A store is made in a folder beside the target, synced, and renamed onto the target, which must be absent or
empty. Where two processes create it at once, one rename succeeds and the other process opens that store.
"""

from __future__ import annotations

import errno
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Literal

from mrlstore.catalogue import Catalogue
from mrlstore.catalogue.keywords import DEFAULT_TOKENIZER
from mrlstore.catalogue.schema import FORMAT_VERSION
from mrlstore.errors import CorruptStore, InvalidInput, MrlStoreError, StoreExists, StoreNotFound
from mrlstore.storage.session import CATALOGUE, LOCK, PARTS
from mrlstore.system.files import Files, make_parents, refuse_remote, remove_tree, storage_error, write_file
from mrlstore.types import Settings, Tokenizer

Mode = Literal["r", "a", "x"]


def ensure(files: Files, path: Path, mode: Mode, wanted: Settings) -> None:
    """Make sure that there is a store at `path`, as `mode` allows: r never creates, x must."""
    there = _look(files, path)
    refuse_remote(path if there != "absent" else _nearest(Path(os.path.realpath(path))))
    if there == "store":
        if mode == "x":
            raise StoreExists(f"{path} is a store already")
        return
    if mode == "r":
        raise StoreNotFound(f"{path}: there is no store here")
    if not _create(files, path, wanted) and mode == "x":
        raise StoreExists(f"{path} was created by another process at the same moment")


def new_settings(
    dim: int | None, prefix_dim: int | None, m: int, ef_construction: int, tokenizer: Tokenizer | None
) -> Settings:
    """The settings of a store to be made."""
    chosen = tokenizer or DEFAULT_TOKENIZER
    return Settings(uuid.uuid4().hex, FORMAT_VERSION, dim, prefix_dim, m, ef_construction, chosen)


def typed(error: OSError, path: Path) -> MrlStoreError:
    """The typed error for what the system said while a store was looked for or made."""
    if isinstance(error, FileExistsError):
        return StoreExists(f"{path}: something is there that is not a store ({error.strerror})")
    if error.errno == errno.EBUSY:
        return InvalidInput(f"{path} is a mount point, which a store cannot replace; use a folder in it")
    return storage_error(error, f"opening {path}")


def _look(files: Files, path: Path) -> Literal["absent", "empty", "store"]:
    try:
        names = files.list_dir(path)
    except FileNotFoundError:
        return "absent"
    except NotADirectoryError as error:
        there = path if path.exists() else _nearest(path)
        raise InvalidInput(f"{there} is a file; a store is a folder") from error
    if not names:
        return "empty"
    if CATALOGUE not in names:
        raise CorruptStore(
            path, f"the folder is not empty and has no {CATALOGUE}: not a store, or a damaged one"
        )
    for name in names:  # SQLite would wait for ever for a pipe
        if name.startswith(CATALOGUE) and files.is_strange(path / name):
            raise CorruptStore(path / name, "is not a file")
    if PARTS not in names or LOCK not in names:
        raise CorruptStore(path, f"{PARTS}/ or {LOCK} is missing: a damaged store")
    return "store"


def _nearest(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())


def _create(files: Files, path: Path, new: Settings) -> bool:
    """Make the store; False if somebody else was faster."""
    path = Path(os.path.realpath(path))  # a link to where the store is to be: a folder cannot replace a link
    make_parents(files, path)
    draft = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex}")
    files.make_dir(draft)
    try:
        files.make_dir(draft / PARTS)
        write_file(files, draft / LOCK, [])
        Catalogue.create(files, draft / CATALOGUE, new)
        for folder in (draft / PARTS, draft):
            files.sync_dir(folder)
        try:
            files.rename(draft, path)
        except OSError:  # not empty any more: somebody's store, or a stranger's folder
            if _look(files, path) != "store":
                raise
            return False
        files.sync_dir(path.parent)
        return True
    finally:
        if os.path.lexists(draft):
            with suppress(OSError):
                remove_tree(files, draft / PARTS)
                remove_tree(files, draft)
