"""mrlstore: an embedded, on-disk vector store for Matryoshka embeddings.

`open` gives a `Store`; the rest are the plain data that its methods take and give, and its errors.
"""

from mrlstore.api.opening import open  # noqa: A004
from mrlstore.api.store import Store
from mrlstore.errors import (
    CorruptStore,
    DamagedPartWarning,
    EmbedError,
    FormatTooNew,
    IdExists,
    InvalidInput,
    LimitExceeded,
    MrlStoreError,
    OriginError,
    StorageError,
    StorageFull,
    StoreClosed,
    StoreExists,
    StoreLocked,
    StoreNotFound,
    StorePoisoned,
)
from mrlstore.recall.calibrate import Calibration
from mrlstore.recall.tiers import Tier, TierReport
from mrlstore.types import (
    LIMITS,
    AuditStats,
    BatchResult,
    Expected,
    Explanation,
    Facet,
    FusedRank,
    GroupingPlan,
    Hit,
    HitGroup,
    HitRanks,
    HnswlibFiles,
    KeywordPlan,
    Plan,
    Problem,
    Progress,
    Record,
    RepairReport,
    Result,
    SegmentPlan,
    Settings,
    Stats,
    VerifyReport,
)
from mrlstore.version import __version__

__all__ = [
    "LIMITS",
    "AuditStats",
    "BatchResult",
    "Calibration",
    "CorruptStore",
    "DamagedPartWarning",
    "EmbedError",
    "Expected",
    "Explanation",
    "Facet",
    "FormatTooNew",
    "FusedRank",
    "GroupingPlan",
    "Hit",
    "HitGroup",
    "HitRanks",
    "HnswlibFiles",
    "KeywordPlan",
    "IdExists",
    "InvalidInput",
    "LimitExceeded",
    "MrlStoreError",
    "OriginError",
    "Plan",
    "Problem",
    "Progress",
    "Record",
    "RepairReport",
    "VerifyReport",
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


def __dir__() -> list[str]:
    """The public names, without the modules that they come from."""
    return __all__
