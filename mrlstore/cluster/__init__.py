"""Many shards as one store: object storage keeps them and orders their writes, an engine runs them.

`create` makes a home, `connect` gives a `ShardedStore` with the methods of `Store`. `import_store` makes a
cluster of one store, and `export_store` one store of a cluster. `status` and `verify` look at object storage
alone.
"""

from mrlstore.cluster.cluster_results import ClusterBatch, ClusterResult, ClusterWritten, Coverage
from mrlstore.cluster.home import Home
from mrlstore.cluster.home_check import HomeReport, verify
from mrlstore.cluster.home_status import HomeStatus, ShardStatus, SnapshotStatus, status
from mrlstore.cluster.one_store import export_store, import_store
from mrlstore.cluster.opening_clusters import connect, create, stop_hosts
from mrlstore.cluster.sharded_store import ClusterStats, ShardedStore, ShardStats

__all__ = [
    "ClusterBatch",
    "ClusterResult",
    "ClusterStats",
    "ClusterWritten",
    "Coverage",
    "Home",
    "HomeReport",
    "HomeStatus",
    "ShardStats",
    "ShardStatus",
    "ShardedStore",
    "SnapshotStatus",
    "connect",
    "create",
    "export_store",
    "import_store",
    "status",
    "stop_hosts",
    "verify",
]
