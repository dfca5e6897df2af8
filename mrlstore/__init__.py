"""mrlstore: an embedded, on-disk vector store for Matryoshka embeddings.

`open` gives a `Store`; the rest are the plain data that its methods take and give, and its errors.
"""

from mrlstore.calibrate import Calibrated
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
from mrlstore.tierreport import Tier, TierReport
from mrlstore.types import (
    LIMITS,
    Audited,
    BatchResult,
    Expected,
    Explanation,
    Hit,
    HitRanks,
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
    "Audited",
    "BatchResult",
    "Calibrated",
    "CorruptStore",
    "DamagedPartWarning",
    "EmbedError",
    "Expected",
    "Explanation",
    "FormatTooNew",
    "Hit",
    "HitRanks",
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
    "Tier",
    "TierReport",
    "__version__",
    "open",
]
