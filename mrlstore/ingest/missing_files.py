"""Rows whose file is gone: what a folder no longer has, of all that was added from it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from mrlstore.ingest.document_rows import CHUNK
from mrlstore.ingest.pipeline import StoreVerbs
from mrlstore.ingest.source_files import FILE


def missing_rows(
    store: StoreVerbs,
    folders: Iterable[Path],
    namespace: str,
    ids: Collection[str],
    unread: Collection[str],
) -> list[str]:
    """The ids of rows that came from files in these folders, and that the files do not give any more.

    A row is missing if its file does not exist, or if the file was read just now and gave no such row: a page
    or a line less, or chunks of another length. What cannot be looked at counts as there.

    Args:
        store: is scanned.
        folders: those that were added just now.
        namespace: of the rows.
        ids: the rows that the folders gave.
        unread: places, as `read_sources` names them, and ids that failed: their rows stay.
    """
    inside = tuple(os.path.join(os.path.abspath(folder), "") for folder in folders)
    given = frozenset(ids)
    read = set()
    missing, kept = [], []
    for record in store.scan(namespace=namespace, include=("metadata",)):
        metadata: dict[str, Any] = record.metadata or {}
        file = metadata.get(FILE)
        if not isinstance(file, str) or not file.startswith(inside):
            continue
        if record.id in given:
            read.add(file)
        elif _is_gone(file):
            missing.append(record.id)
        else:
            kept.append((record.id, file, metadata))
    stale = [id for id, file, metadata in kept if file in read and not _is_unread(id, metadata, unread)]
    return missing + stale


def _is_unread(id: str, metadata: dict[str, Any], unread: Collection[str]) -> bool:
    """Whether a row, its document, or a part of its file could not be read or stored just now."""
    chunk = metadata.get(CHUNK)
    document = chunk.get("of") if isinstance(chunk, dict) else id
    path = str(metadata.get("path"))
    return any(place in (id, document, path) or place.startswith(f"{path}, ") for place in unread)


def _is_gone(file: str) -> bool:
    try:
        os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
