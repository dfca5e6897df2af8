"""The home of a cluster: `cluster.json` below a prefix of object storage, created once and never changed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args

from mrlstore import checks
from mrlstore.cluster.slots import SLOTS
from mrlstore.errors import (
    CorruptStore,
    FormatTooNew,
    InvalidInput,
    ObjectNotFound,
    StoreExists,
    StoreNotFound,
)
from mrlstore.object_storage import ObjectStorage
from mrlstore.shared_log import HOME, shard_prefix
from mrlstore.types import GraphBuilder, Tokenizer

FORMAT: Final = 1
Durability = Literal["shared", "local"]


@dataclass(frozen=True)
class Home:
    """What a cluster was created with."""

    format: int
    uuid: str
    dim: int
    prefix_dim: int
    m: int
    ef_construction: int
    tokenizer: Tokenizer
    graph: GraphBuilder
    shards: int
    durability: Durability

    def prefix(self, shard: int) -> str:
        """The folder of a shard in object storage."""
        return shard_prefix(shard)


def create_home(storage: ObjectStorage, home: Home) -> None:
    """Probe that `create` excludes, and create `cluster.json`; StoreExists if there is one."""
    storage.probe()
    if not storage.create(HOME, json.dumps(asdict(home), indent=1).encode()):
        raise StoreExists(f"{storage.url}: there is a cluster already")


def read_home(storage: ObjectStorage) -> Home:
    """What the cluster was created with; StoreNotFound, CorruptStore or FormatTooNew where that fails."""
    try:
        data = storage.get(HOME, 65_536)
    except ObjectNotFound as error:
        raise StoreNotFound(
            f"{storage.url}: there is no cluster; mrlstore.cluster.create makes one"
        ) from error
    where = f"{storage.url}/{HOME}"
    try:
        found = json.loads(data)
        version = found["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptStore(where, f"not the description of a cluster ({error!r})") from error
    if version != FORMAT:
        raise FormatTooNew(f"{where}: format {version}, this mrlstore reads {FORMAT}; upgrade mrlstore")
    return _checked(found, where)


def _checked(found: Mapping[str, Any], where: str) -> Home:
    kinds = {
        field.name: str if field.name in ("uuid", "tokenizer", "graph", "durability") else int
        for field in fields(Home)
    }
    for name, kind in kinds.items():
        if type(found.get(name)) is not kind:
            raise CorruptStore(where, f"{name} is {found.get(name)!r:.60}")
    home = Home(**{name: found[name] for name in kinds})
    if not is_power_of_two(home.shards) or home.shards > SLOTS or home.durability not in get_args(Durability):
        raise CorruptStore(where, f"shards is {home.shards}, durability {home.durability!r:.60}")
    return home


def check_home(shards: object, durability: object) -> int:
    """The number of shards, where both may be those of a home; InvalidInput where not."""
    count = checks.check_count(shards, "shards", 1, SLOTS)
    if not is_power_of_two(count):
        raise InvalidInput(f"shards: {count} is not a power of two; take 1, 2, 4, 8 and so on")
    checks.check_choice(durability, "durability", get_args(Durability))
    return count


def new_home(
    dim: int,
    prefix_dim: int,
    m: int,
    ef_construction: int,
    tokenizer: Tokenizer,
    graph: GraphBuilder,
    shards: object,
    durability: str,
) -> Home:
    """A home with checked numbers of shards and durability."""
    count = check_home(shards, durability)
    kept: Durability = "local" if durability == "local" else "shared"
    return Home(FORMAT, uuid.uuid4().hex, dim, prefix_dim, m, ef_construction, tokenizer, graph, count, kept)


def is_power_of_two(number: int) -> bool:
    """Whether it is 1, 2, 4, 8 and so on."""
    return number > 0 and number & (number - 1) == 0
