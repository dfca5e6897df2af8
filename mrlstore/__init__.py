"""mrlstore: an embedded, on-disk vector store for Matryoshka embeddings.

`open` gives a `Store`; the rest are the plain data that its methods take and give, and its errors.
"""

from mrlstore.errors import (
    CorruptStore,
    DamagedPartWarning,
    EmbedError,
    FormatTooNew,
    InvalidInput,
    LimitExceeded,
    MrlStoreError,
    StorageError,
    StorageFull,
    StoreClosed,
    StoreExists,
    StoreLocked,
    StoreNotFound,
    StorePoisoned,
)
from mrlstore.store import Store, open  # noqa: A004
from mrlstore.types import (
    LIMITS,
    BatchResult,
    Hit,
    Plan,
    Problem,
    Progress,
    Record,
    Repaired,
    Report,
    Result,
    SegmentPlan,
    Settings,
    Stats,
)
from mrlstore.version import __version__

__all__ = [
    "LIMITS",
    "BatchResult",
    "CorruptStore",
    "DamagedPartWarning",
    "EmbedError",
    "FormatTooNew",
    "Hit",
    "InvalidInput",
    "LimitExceeded",
    "MrlStoreError",
    "Plan",
    "Problem",
    "Progress",
    "Record",
    "Repaired",
    "Report",
    "Result",
    "SegmentPlan",
    "Settings",
    "Stats",
    "StorageError",
    "StorageFull",
    "Store",
    "StoreClosed",
    "StoreExists",
    "StoreLocked",
    "StoreNotFound",
    "StorePoisoned",
    "__version__",
    "open",
]
