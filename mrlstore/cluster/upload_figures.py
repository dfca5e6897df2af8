"""`UploadFigures`: how far the log is behind a writer with durability="local", as `stats` tells it."""

from __future__ import annotations

from typing import Protocol

from mrlstore.cluster.outbox import Uploader
from mrlstore.cluster.shard_copy import ShardCopy
from mrlstore.types import ShippingStats


class _Writer(Protocol):
    copy: ShardCopy
    epoch: int
    snapshots_shipped: int

    @property
    def bytes_sent(self) -> int: ...


class UploadFigures:
    """What `Stats.shipping` holds of one shard."""

    def __init__(self, writer: _Writer, uploader: Uploader) -> None:
        self._writer, self._uploader = writer, uploader

    def figures(self) -> ShippingStats:
        """`behind_s` is the age of the oldest write that the log has not; `generation` that of the copy."""
        writer, error = self._writer, self._uploader.error
        return ShippingStats(
            url=f"{writer.copy.storage.url}/{writer.copy.prefix}",
            epoch=writer.epoch,
            generation=writer.copy.store.generation,
            behind_s=self._uploader.behind_s(),
            snapshots=writer.snapshots_shipped,
            bytes_sent=writer.bytes_sent,
            error=None if error is None else str(error),
        )

    def stop(self) -> None:
        """Nothing: the writer ends the upload."""
