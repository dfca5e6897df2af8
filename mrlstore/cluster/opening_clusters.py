"""`create` and `connect`: a cluster's home is made once, and opened with an engine that runs its shards."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from mrlstore import checks
from mrlstore.api import arguments
from mrlstore.catalogue.keywords import DEFAULT_TOKENIZER, TOKENIZERS
from mrlstore.catalogue.settings import EF_CONSTRUCTION_RANGE, M_RANGE
from mrlstore.cluster.home import Durability, create_home, new_home, read_home
from mrlstore.cluster.local_engine import LocalEngine
from mrlstore.cluster.running_shard import ShardCare
from mrlstore.cluster.sharded_store import ShardedStore
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput
from mrlstore.object_storage import ObjectStorage, open_storage
from mrlstore.system import cpus, forks
from mrlstore.system.late import importing
from mrlstore.types import LIMITS, GraphBuilder, Tokenizer
from mrlstore.writing.writer import DEFAULT_PREFIX_DIM

_MOST_GROUP_MS: Final = 10_000.0
_USUAL_CARE: Final = ShardCare()


def create(
    home: str | os.PathLike[str],
    *,
    dim: int,
    prefix_dim: int | None = None,
    shards: int = 1,
    durability: Durability = "shared",
    m: int = 16,
    ef_construction: int = 200,
    tokenizer: Tokenizer | None = None,
    graph: GraphBuilder | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Make the home of a cluster: `cluster.json`, which nothing changes any more.

    Args:
        home: "s3://bucket/prefix", "gs://...", "az://...", or a folder that all its processes see.
        dim: dimensions of the vectors.
        prefix_dim: leading dimensions that are indexed; by default 768 or dim.
        shards: how many, a power of two up to 4,096. It cannot be changed: take few large ones.
        durability: "shared": what is acknowledged is in the log in object storage. "local": it is on the disk
            of the writer, and comes into the log a moment later; see docs/scale.md for what may be lost.
        m: links of each row in the graphs.
        ef_construction: effort of building the graphs.
        tokenizer: how documents are cut into words.
        graph: what builds the graphs.
        options: for buckets, as `mrlstore.restore` takes them; never stored.

    Raises:
        InvalidInput: an argument is wrong.
        StoreExists: there is a cluster already.
        ObjectStorageError: object storage cannot be reached, or does not create exclusively.
    """
    checks.check_count(dim, "dim", LIMITS.min_dim, LIMITS.max_dim)
    checks.check_optional_count(prefix_dim, "prefix_dim", 1, dim)
    checks.check_count(m, "m", *M_RANGE)
    checks.check_count(ef_construction, "ef_construction", *EF_CONSTRUCTION_RANGE)
    words, builder = tokenizer or DEFAULT_TOKENIZER, graph or "mrlstore"
    checks.check_choice(words, "tokenizer", tuple(TOKENIZERS))
    checks.check_choice(builder, "graph", ("mrlstore", "hnswlib"))
    made = new_home(
        dim,
        prefix_dim or min(DEFAULT_PREFIX_DIM, dim),
        m,
        ef_construction,
        words,
        builder,
        shards,
        durability,
    )
    storage = open_storage(home, options)
    try:
        create_home(storage, made)
    finally:
        storage.close()


def connect(
    home: str | os.PathLike[str],
    *,
    engine: Literal["local", "ray"] = "local",
    mode: Literal["r", "a"] = "a",
    folder: str | os.PathLike[str] | None = None,
    embedder: Embedder | None = None,
    group_ms: float = 0.0,
    snapshot_s: float = 300.0,
    snapshot_bytes: int = 64 * 1024 * 1024,
    poll_s: float = 0.25,
    auto_maintain: bool = True,
    threads: int | None = None,
    copies: int = 2,
    hosts: int | None = None,
    num_cpus: float = 1.0,
    labels: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> ShardedStore:
    """Open a cluster.

    Args:
        home: as in `create`.
        engine: "local": all shards in this process. "ray": in actors of the Ray cluster that runs here, which
            all processes share and which stay until `stop_hosts`; needs mrlstore[ray], see docs/scale.md.
        mode: "a": this process writes all shards, and whoever wrote them before writes no more; "r": copies
            that follow the log, in any number of processes. With Ray any number of processes may write.
        folder: where the copies of the shards lie; what is there is used again. By default a temporary one,
            which is removed at the end: all rows are then read from object storage at each start. With Ray a
            path on each node.
        embedder: turns texts into vectors, for `add` and `query(text=...)`.
        group_ms: how long the first of several writes at the same time waits for others, so that one object
            has all: fewer requests to object storage.
        snapshot_s: a snapshot of a shard that was written is shipped after so many seconds,
        snapshot_bytes: or after so many bytes of its log. What it makes needless is removed.
        poll_s: a copy that follows looks so often for what is new, one LIST for each shard; 0 looks at each
            call, so that an answer has all that was acknowledged before.
        auto_maintain: index and merge in the background.
        threads: of each shard, for builds and batches; by default the processors that the process may use,
            with Ray `num_cpus`.
        copies: with Ray, how many hosts answer for a shard.
        hosts: with Ray, how many actors there are; by default one for each node. The first that connects
            decides.
        num_cpus: with Ray, the processors that each host asks for.
        labels: with Ray, labels of the nodes that are preferred for hosts, such as {"disk": "nvme"}. If none
            has them, or they are gone, others are taken.
        options: for buckets, as in `create`.

    Returns:
        The cluster, with the methods of `Store`.

    Raises:
        InvalidInput: an argument is wrong.
        StoreNotFound: there is no cluster.
        StoreLocked: another process uses the folder. WriterReplaced: another process began at this moment.
        ObjectStorageError, ShardUnavailable, CorruptStore: the shards cannot be read, or no Ray runs.
        ImportError: engine="ray", and Ray is not installed.
    """
    checks.check_choice(engine, "engine", ("local", "ray"))
    checks.check_choice(mode, "mode", ("r", "a"))
    arguments.check_embedder(embedder)
    checks.check_flag(auto_maintain, "auto_maintain")
    checks.check_count(copies, "copies", 1, 64)
    checks.check_optional_count(hosts, "hosts", 1, 4096)
    workers = checks.check_optional_count(threads, "threads", 1, 1024)
    care = _checked_care(group_ms, snapshot_s, snapshot_bytes, poll_s)
    place = None if folder is None else arguments.check_path(folder)
    storage = open_storage(home, options)
    if engine == "local":
        return open_cluster(
            storage,
            mode=mode,
            folder=place,
            embedder=embedder,
            care=care,
            auto_maintain=auto_maintain,
            threads=workers or cpus.available(),
        )
    if checks.check_number(num_cpus, "num_cpus") < 0:
        raise InvalidInput(f"num_cpus: expected 0 or more, got {num_cpus}")
    found = read_home(storage)
    if found.durability == "local":
        storage.close()
        raise InvalidInput('engine: "ray" moves writers between nodes, and needs durability="shared"')
    with importing:
        from mrlstore.cluster.ray_engine.actors import HostPlan
        from mrlstore.cluster.ray_engine.asking_engine import RayEngine
    plan = HostPlan(
        found,
        storage.url,
        None if options is None else dict(options),
        hosts,
        copies,
        str(place or Path(tempfile.gettempdir()) / "mrlstore-cluster"),
        care,
        workers or max(1, int(num_cpus)),
        num_cpus,
        _checked_labels(labels),
    )
    running = RayEngine(plan)
    return ShardedStore(
        found, storage, running, writes=mode == "a", embedder=embedder, at_close=storage.close
    )


def stop_hosts(home: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> int:
    """End all actors that Ray runs for a cluster, and give how many those were.

    What was acknowledged is in object storage; the next `connect` with engine="ray" starts others.
    """
    with importing:
        from mrlstore.cluster.ray_engine import actors
    storage = open_storage(home, options)
    try:
        return actors.stop_hosts(read_home(storage))
    finally:
        storage.close()


def _checked_labels(labels: object) -> dict[str, str]:
    if labels is None:
        return {}
    if isinstance(labels, Mapping) and all(isinstance(one, str) for pair in labels.items() for one in pair):
        return dict(labels)
    raise InvalidInput(f"labels: expected texts by names, such as {{'disk': 'nvme'}}, got {labels!r:.80}")


def _checked_care(group_ms: object, snapshot_s: object, snapshot_bytes: object, poll_s: object) -> ShardCare:
    group, every, poll = (
        checks.check_number(value, name)
        for value, name in ((group_ms, "group_ms"), (snapshot_s, "snapshot_s"), (poll_s, "poll_s"))
    )
    if not 0 <= group <= _MOST_GROUP_MS:
        raise InvalidInput(f"group_ms: expected 0 to {_MOST_GROUP_MS:g} milliseconds, got {group_ms}")
    if every <= 0:
        raise InvalidInput(f"snapshot_s: expected seconds above 0, got {snapshot_s}")
    if poll < 0:
        raise InvalidInput(f"poll_s: expected seconds from 0 on, got {poll_s}")
    return ShardCare(group, every, checks.check_count(snapshot_bytes, "snapshot_bytes", 1), poll)


def open_cluster(
    storage: ObjectStorage,
    *,
    mode: Literal["r", "a"] = "a",
    folder: Path | None = None,
    embedder: Embedder | None = None,
    care: ShardCare = _USUAL_CARE,
    auto_maintain: bool = True,
    threads: int = 1,
) -> ShardedStore:
    """`connect` with other object storage, with which tests make requests fail."""
    made = None if folder is not None else Path(tempfile.mkdtemp(prefix="mrlstore-cluster-"))

    survived = forks.survived()

    def at_close() -> None:
        if survived != forks.survived():
            return
        storage.close()
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)

    try:
        found = read_home(storage)
        running = LocalEngine(
            found,
            storage,
            (folder or made or Path()) / found.uuid,
            writes=mode == "a",
            care=care,
            auto_maintain=auto_maintain,
            threads=threads,
        )
    except BaseException:
        at_close()
        raise
    return ShardedStore(found, storage, running, writes=mode == "a", embedder=embedder, at_close=at_close)
