"""mrlstore: an embedded, on-disk vector store for Matryoshka embeddings.

`open` gives a `Store`; the rest are the plain data that its methods take and give, and its errors.
"""

from typing import TYPE_CHECKING, Any

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
from mrlstore.system.late import LateModule
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

if TYPE_CHECKING:
    from mrlstore.recall.calibrate import Calibration
    from mrlstore.recall.tiers import Tier, TierReport

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


def __getattr__(name: str) -> Any:
    """The results of measuring recall, imported at their first use."""
    if name == "Calibration":
        return LateModule("mrlstore.recall.calibrate").Calibration
    if name in ("Tier", "TierReport"):
        return getattr(LateModule("mrlstore.recall.tiers"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
