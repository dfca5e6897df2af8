"""What a store tells of itself: settings, statistics, and what checks and repairs found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mrlstore.types import html
from mrlstore.types.values import GraphBuilder, Tokenizer


@dataclass(frozen=True)
class Settings:
    """What a store was created with; kept in its catalogue."""

    store_uuid: str
    format_version: int
    dim: int | None
    prefix_dim: int | None
    m: int
    ef_construction: int
    tokenizer: (
        Tokenizer | None
    )  # how documents are cut into words; None: the store is older than keyword search
    graph: GraphBuilder  # what builds the graphs


@dataclass(frozen=True)
class AuditStats:
    """What the audit saw of the last queries for one k: recall with its 95% Clopper-Pearson interval."""

    k: int
    queries: int
    recall: float
    low: float
    high: float
    let_go: int  # queries drawn (of any k) that were not checked, so that the audit keeps to its cost


@dataclass(frozen=True)
class Stats:
    """The state of a store at one generation."""

    path: str
    rows: int
    rows_without_vector: int
    namespaces: int
    dim: int | None
    prefix_dim: int | None
    generation: int
    tail_rows: int
    segments: int
    flat_segments: int  # segments that have no graph yet: scanned
    indexed_rows: int
    dead_rows: int  # replaced or deleted rows that segments still hold
    damaged_parts: int
    bytes_on_disk: int
    bytes_reclaimable: int  # an estimate of what optimize() gives back
    bytes_wal: int
    bytes_by_kind: Mapping[str, int]  # catalogue, base, index, columns, other
    graph: GraphBuilder  # what builds the graphs of this store
    rows_by_graph: Mapping[str, int]  # live rows of the segments that have graphs, by what built these
    audit: tuple[AuditStats, ...] = ()  # one for each k, where `audit` is on in this process
    shipping: tuple[ShippingStats, ...] = ()  # one for each `ship` that goes on in this process

    def _repr_html_(self) -> str:
        """The figures as a table, in notebooks."""
        figures = {
            name: value for name, value in vars(self).items() if name not in ("path", "audit", "shipping")
        }
        kinds = figures.pop("bytes_by_kind")
        figures |= {f"bytes of {kind}": size for kind, size in kinds.items()}
        figures |= {f"recall@{one.k} by the audit": one.recall for one in self.audit}
        figures |= {f"seconds behind at {one.url}": one.behind_s for one in self.shipping}
        return html.table(self.path, (), [(name.replace("_", " "), value) for name, value in figures.items()])


@dataclass(frozen=True)
class ShippingStats:
    """How far a store's copy in object storage has come, in the process that ships it."""

    url: str
    epoch: int  # rises by one with each process that begins to ship to this place
    generation: int  # the newest that can be restored; 0 before the first
    behind_s: float  # for how long there have been commits that are not there yet; 0: none is missing
    snapshots: int  # shipped by this process
    bytes_sent: int
    error: str | None  # of the last try, if it failed; it goes on, unless another process has begun to ship


@dataclass(frozen=True)
class Problem:
    """One thing that `verify` found: where, what, and what to do about it."""

    path: str
    what: str
    remedy: str


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found. `ok` is true when nothing is wrong."""

    ok: bool
    problems: tuple[Problem, ...]
    rows: int
    parts: int
    bytes_checked: int
    rows_by_graph: Mapping[str, int]  # rows of the segments that have graphs, by what built these


@dataclass(frozen=True)
class RepairReport:
    """What `repair` did. `ok` is true when nothing is wrong any more, as `report` tells."""

    ok: bool
    segments: int  # how many had damage
    lost: tuple[
        tuple[str, str], ...
    ]  # (namespace, id) of rows that lost their vector; the rest of them is kept
    set_aside: tuple[str, ...]  # where the damaged folders are now
    report: VerifyReport


@dataclass(frozen=True)
class HnswlibFiles:
    """What `export_hnswlib` has written: row i has label i, and its id is line i of the ids."""

    rows: int
    index: str  # path
    ids: str  # path


@dataclass(frozen=True)
class Progress:
    """One call of a `progress=` callback: `done` of `total` units of `phase`."""

    phase: str
    done: int
    total: int
