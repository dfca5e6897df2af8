"""Many shards as one store: object storage keeps them and orders their writes, an engine runs them.

`create` makes a home, `connect` gives a `ShardedStore` with the methods of `Store`. `import_store` makes a
cluster of one store, and `export_store` one store of a cluster. `status` and `verify` look at object storage
alone. `hosts`, `move` and `drain` are about what Ray runs on nodes.
"""

from mrlstore.cluster.building import Built, build
from mrlstore.cluster.cluster_results import ClusterBatch, ClusterResult, ClusterWritten, Coverage
from mrlstore.cluster.home import Home
from mrlstore.cluster.home_check import HomeReport, verify
from mrlstore.cluster.home_status import HomeStatus, ShardStatus, SnapshotStatus, status
from mrlstore.cluster.node_operations import drain, hosts, move, wait_until_whole
from mrlstore.cluster.one_store import export_store, import_store
from mrlstore.cluster.opening_clusters import connect, create, stop_hosts
from mrlstore.cluster.placement import ClusterView, HostView, ShardState
from mrlstore.cluster.sharded_store import ClusterStats, ShardedStore, ShardStats

__all__ = [
    "Built",
    "ClusterBatch",
    "ClusterResult",
    "ClusterStats",
    "ClusterView",
    "ClusterWritten",
    "Coverage",
    "Home",
    "HomeReport",
    "HomeStatus",
    "HostView",
    "ShardState",
    "ShardStats",
    "ShardStatus",
    "ShardedStore",
    "SnapshotStatus",
    "build",
    "connect",
    "create",
    "drain",
    "export_store",
    "hosts",
    "import_store",
    "move",
    "status",
    "stop_hosts",
    "verify",
    "wait_until_whole",
]
