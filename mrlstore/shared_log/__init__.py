"""The log of writes in object storage: its entries, and where its objects lie.

An entry that was created under its place is the commit.
"""

from mrlstore.shared_log.entries import LogEntry, decoded, encoded
from mrlstore.shared_log.log_objects import HOME, LogObjects, shard_prefix

__all__ = ["HOME", "LogEntry", "LogObjects", "decoded", "encoded", "shard_prefix"]
