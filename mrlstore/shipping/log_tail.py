"""What the log of a shard has behind a place, without what nobody is to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mrlstore.object_storage import ObjectStorage
from mrlstore.shared_log import LogEntry, LogObjects
from mrlstore.shipping import epochs
from mrlstore.shipping.manifest import newest_complete

_READ_BYTES: Final = 64 * 1024 * 1024  # at a time


def entries_behind(log: LogObjects, place: int) -> list[LogEntry] | None:
    """Entries behind a place, up to 64 MB and at least one; None where the log no longer has the next one."""
    found = log.places(place)
    entries, size = [], 0
    for number, there in enumerate(found, place + 1):
        if there.number != number or size > _READ_BYTES:
            break
        entry = log.read(number)
        if entry is None:
            return None
        entries.append(entry)
        size += there.size
    return None if found and not entries else entries


def may_be_left_over(storage: ObjectStorage, prefix: str, entries: Sequence[LogEntry]) -> bool:
    """Whether entries that were read may lie below a snapshot, where a sleeper leaves what nobody is to read.

    That takes an epoch that is later than the entry's, and a snapshot.
    """
    found = [entry.epoch for entry in entries]
    if min(found) == max(found) and epochs.is_newest(storage, max(found), prefix):
        return False
    newest = newest_complete(storage, prefix)
    return newest is not None and newest.place >= entries[0].place
