"""mrlstore: an embedded, on-disk vector store for Matryoshka embeddings.

`open` gives a `Store`, `connect` one that a server keeps; the rest are the plain data that its methods take
and give, and its errors.
"""

from typing import TYPE_CHECKING, Any

from mrlstore.api.opening import open  # noqa: A004
from mrlstore.api.store import Store
from mrlstore.errors import (
    AccessDenied,
    CorruptStore,
    DamagedPartWarning,
    EmbedError,
    FormatTooNew,
    IdExists,
    InvalidInput,
    LimitExceeded,
    MrlStoreError,
    ObjectNotFound,
    ObjectStorageDenied,
    ObjectStorageError,
    OperationForgotten,
    OriginError,
    PartialWrite,
    ServerError,
    ShardUnavailable,
    StaleRead,
    StorageError,
    StorageFull,
    StoreClosed,
    StoreExists,
    StoreLocked,
    StoreNotFound,
    StorePoisoned,
    WriterReplaced,
)
from mrlstore.system.late import LateModule
from mrlstore.types import (
    LIMITS,
    AuditStats,
    BatchResult,
    DuplicateGroup,
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
    ShippingStats,
    Stats,
    VerifyReport,
    Written,
)
from mrlstore.version import __version__

if TYPE_CHECKING:
    from mrlstore.client import RemoteStore, connect
    from mrlstore.recall.calibrate import Calibration
    from mrlstore.recall.tiers import Tier, TierReport

__all__ = [
    "LIMITS",
    "AccessDenied",
    "AuditStats",
    "BatchResult",
    "Calibration",
    "CorruptStore",
    "DamagedPartWarning",
    "DuplicateGroup",
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
    "IdExists",
    "InvalidInput",
    "KeywordPlan",
    "LimitExceeded",
    "MrlStoreError",
    "ObjectNotFound",
    "ObjectStorageDenied",
    "ObjectStorageError",
    "OperationForgotten",
    "OriginError",
    "PartialWrite",
    "Plan",
    "Problem",
    "Progress",
    "Record",
    "RemoteStore",
    "RepairReport",
    "Result",
    "SegmentPlan",
    "ServerError",
    "Settings",
    "ShardUnavailable",
    "StaleRead",
    "ShippingStats",
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
    "VerifyReport",
    "WriterReplaced",
    "Written",
    "__version__",
    "connect",
    "open",
]


def __dir__() -> list[str]:
    """The public names, without the modules that they come from."""
    return __all__


def __getattr__(name: str) -> Any:
    """The results of measuring recall and the client of a server, imported at their first use."""
    if name == "Calibration":
        return LateModule("mrlstore.recall.calibrate").Calibration
    if name in ("Tier", "TierReport"):
        return getattr(LateModule("mrlstore.recall.tiers"), name)
    if name in ("RemoteStore", "connect"):
        return getattr(LateModule("mrlstore.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
