"""The log of writes in object storage: its entries, its epochs, and where its objects lie.

An entry that was created under its place is the commit; epochs tell a writer that a later one has begun.
"""

from mrlstore.shared_log.entries import LogEntry, decoded, encoded
from mrlstore.shared_log.log_objects import LogObjects
from mrlstore.shared_log.writer_epochs import Epochs

__all__ = ["Epochs", "LogEntry", "LogObjects", "decoded", "encoded"]
