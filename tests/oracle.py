"""The oracle: what a store should answer, as a dict and plain numpy.

Written from the design and independent of the library's code: nothing here imports mrlstore. Vectors are
kept as float32, scored in float64 against the float16 unit row that the design says is stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING: Any = object()
KINDS = ("NoneType", "bool", "number", "str")  # of values, in their order
TOLERANCE = 2e-6  # of a score: float32 accumulation over a few thousand terms


# --- vectors ---------------------------------------------------------------------------------------


def stored_row(vector: NDArray[Any]) -> NDArray[np.float16]:
    """The float16 [dim] unit row that a store keeps of `vector`."""
    wide = np.asarray(vector, dtype=np.float64)
    return np.asarray(wide / np.linalg.norm(wide), dtype=np.float16)


def _rounds_alike(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """True [n] where every sensible way of normalising gives the same float16 row."""
    wide = rows.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    short = length.astype(np.float32)
    first = (wide / length).astype(np.float16)
    others = [
        (rows / short).astype(np.float16),
        (rows * (np.float32(1) / short)).astype(np.float16),
        (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16),
        np.nextafter(rows / short, np.float32(2)).astype(np.float16),
        np.nextafter(rows / short, np.float32(-2)).astype(np.float16),
    ]
    alike = np.ones(len(rows), dtype=np.bool_)
    for other in others:
        alike &= (first == other).all(axis=1)
    return alike


def nested_vectors(n: int, dim: int, seed: int = 0, decay: float = 1.0) -> NDArray[np.float32]:
    """float32 [n, dim]: clustered rows whose energy falls along the dimensions, of various lengths.

    Rows lie away from float16 rounding edges, so that the oracle may demand the very same scores.
    """
    rng = np.random.default_rng(seed)
    scale = (1.0 + np.arange(dim)) ** -decay
    centres = rng.normal(size=(max(2, n // 50), dim)) * scale

    def draw(count: int) -> NDArray[np.float32]:
        picked = centres[rng.integers(0, len(centres), count)]
        rows = picked + 0.7 * rng.normal(size=(count, dim)) * scale
        return np.asarray(rows * rng.uniform(0.5, 2.0, (count, 1)), dtype=np.float32)

    rows = draw(n)
    for _ in range(100):
        odd = np.flatnonzero(~_rounds_alike(rows))
        if not odd.size:
            return rows
        rows[odd] = draw(len(odd))
    return rows  # so many dimensions that some component always lies near an edge


# --- filters: the table of the design, read literally ------------------------------------------------


def resolve(metadata: Mapping[str, Any] | None, path: str) -> Any:
    """The value at a dotted path, or MISSING; a literal key with a dot wins."""
    if metadata is None:
        return MISSING
    if path in metadata:
        return metadata[path]
    value: Any = metadata
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return type(value).__name__


def _same(left: Any, right: Any) -> bool:
    return _kind(left) == _kind(right) and bool(left == right)


def _equals(value: Any, operand: Any) -> bool:
    if value is MISSING:
        return False
    if isinstance(value, list) and not isinstance(operand, list):
        return any(_same(member, operand) for member in value)
    return _same(value, operand)


def _compares(value: Any, operator: str, operand: Any) -> bool:
    if value is MISSING or _kind(value) != _kind(operand):
        return False
    if operator == "$gt":
        return bool(value > operand)
    if operator == "$gte":
        return bool(value >= operand)
    if operator == "$lt":
        return bool(value < operand)
    return bool(value <= operand)


def _contains(value: Any, operand: Any) -> bool:
    if isinstance(value, list):
        return any(_same(member, operand) for member in value)
    return isinstance(value, str) and isinstance(operand, str) and operand in value


def _field_matches(value: Any, operator: str, operand: Any) -> bool:
    if operator == "$eq":
        return _equals(value, operand)
    if operator == "$ne":
        return not _equals(value, operand)
    if operator == "$in":
        return any(_equals(value, one) for one in operand)
    if operator == "$nin":
        return not any(_equals(value, one) for one in operand)
    if operator in ("$gt", "$gte", "$lt", "$lte"):
        return _compares(value, operator, operand)
    if operator == "$exists":
        return (value is not MISSING) == operand
    if operator == "$contains":
        return _contains(value, operand)
    if operator == "$not_contains":
        return not _contains(value, operand)
    if operator == "$any":
        return isinstance(value, list) and any(_equals(value, one) for one in operand)
    if operator == "$all":
        return isinstance(value, list) and all(_equals(value, one) for one in operand)
    if operator == "$not":
        return not all(_field_matches(value, inner, given) for inner, given in operand.items())
    raise AssertionError(f"the oracle knows no {operator}")


def matches(where: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None) -> bool:
    """Whether a row with this metadata passes the filter."""
    for key, condition in (where or {}).items():
        if key == "$and":
            passed = all(matches(clause, metadata) for clause in condition)
        elif key == "$or":
            passed = any(matches(clause, metadata) for clause in condition)
        elif isinstance(condition, Mapping):
            value = resolve(metadata, key)
            passed = all(_field_matches(value, op, given) for op, given in condition.items())
        else:
            passed = _equals(resolve(metadata, key), condition)
        if not passed:
            return False
    return True


def values_at(metadata: Mapping[str, Any] | None, path: str) -> set[tuple[str, Any]]:
    """The scalars at a path, each with its kind: the value itself, or the members of a list."""
    value = resolve(metadata, path)
    members = value if isinstance(value, list) else [] if value is MISSING else [value]
    return {(_kind(one), one) for one in members if one is None or isinstance(one, bool | int | float | str)}


# --- the store as a dict -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One row: `order` rises with every write of it, as its key does."""

    order: int
    metadata: dict[str, Any] | None
    document: str | None
    vector: NDArray[np.float32] | None
    unit: NDArray[np.float16] | None = None  # what is stored of the vector


def _copied(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if metadata is None else json.loads(json.dumps(metadata))


@dataclass
class Oracle:
    """A dict of rows by (namespace, id), with the verbs of a store."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    writes: int = 0

    def copy(self) -> Oracle:
        """An independent state: rows themselves are never changed."""
        return Oracle(dict(self.rows), self.writes)

    def upsert(
        self,
        ids: Sequence[str],
        vectors: Sequence[Any] | NDArray[Any] | None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        documents: Sequence[str | None] | None = None,
        *,
        namespace: str = "",
        on_conflict: str = "replace",
    ) -> None:
        """Write rows; the last of equal ids in one batch wins."""
        there = {key for key in self.rows if key[0] == namespace}
        for i, name in enumerate(ids):
            if on_conflict == "skip" and (namespace, name) in there:
                continue
            vector = None if vectors is None else vectors[i]
            self.writes += 1
            self.rows[namespace, name] = Row(
                self.writes,
                _copied(None if metadatas is None else metadatas[i]),
                None if documents is None else documents[i],
                None if vector is None else np.array(vector, dtype=np.float32),
                None if vector is None else stored_row(vector),
            )

    def update(
        self,
        ids: Iterable[str],
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        documents: Sequence[str | None] | None = None,
        *,
        vectors: Any = None,
        namespace: str = "",
    ) -> int:
        """Merge metadata keys (None removes one), replace documents and vectors; the rows that were there."""
        changed = 0
        for i, name in enumerate(ids):
            row = self.rows.get((namespace, name))
            if row is None:
                continue
            merged = row.metadata
            if metadatas is not None and metadatas[i] is not None:
                change = _copied(metadatas[i]) or {}
                kept = {key: value for key, value in (row.metadata or {}).items() if key not in change}
                merged = {**kept, **{key: value for key, value in change.items() if value is not None}}
            document = row.document
            if documents is not None and documents[i] is not None:
                document = documents[i]
            vector, unit = row.vector, row.unit
            if vectors is not None and vectors[i] is not None:
                vector, unit = np.array(vectors[i], dtype=np.float32), stored_row(vectors[i])
            self.writes += 1
            self.rows[namespace, name] = Row(self.writes, merged, document, vector, unit)
            changed += 1
        return changed

    def update_where(self, where: Mapping[str, Any], change: Mapping[str, Any], namespace: str = "") -> int:
        """One dict merged into every row that matches."""
        ids = self.ids(where, namespace)
        return self.update(ids, [change] * len(ids), namespace=namespace)

    def delete(self, ids: Iterable[str], namespace: str = "") -> int:
        """Remove rows; how many were there."""
        return sum(self.rows.pop((namespace, name), None) is not None for name in set(ids))

    def clear(self, namespace: str = "") -> int:
        """Remove a namespace's rows."""
        return self.delete(self.ids(None, namespace), namespace)

    def ids(self, where: Mapping[str, Any] | None = None, namespace: str | None = "") -> list[str]:
        """Ids that match, in the order of (namespace, id), as a scan gives them; namespace None means all."""
        found = [
            key
            for key, row in self.rows.items()
            if (namespace is None or key[0] == namespace) and matches(where, row.metadata)
        ]
        return [name for _, name in sorted(found)]

    def namespaces(self) -> dict[str, int]:
        """Rows of each namespace that has any."""
        sizes: dict[str, int] = {}
        for space, _ in self.rows:
            sizes[space] = sizes.get(space, 0) + 1
        return sizes

    def facets(
        self, path: str, where: Mapping[str, Any] | None = None, namespace: str | None = ""
    ) -> list[tuple[Any, int]]:
        """The values at a path and their rows: frequent ones first, then null, booleans, numbers, texts."""
        counts: dict[tuple[str, Any], list[Any]] = {}
        for (space, _), row in self.rows.items():
            if namespace in (None, space) and matches(where, row.metadata):
                for kind, value in values_at(row.metadata, path):
                    counts.setdefault((kind, value), [value, 0])[1] += 1
        found = sorted(counts.items(), key=lambda item: (-item[1][1], KINDS.index(item[0][0]), item[0][1]))
        return [(value, rows) for _, (value, rows) in found]

    def scores(
        self,
        query: Any,
        *,
        where: Mapping[str, Any] | None = None,
        namespace: str = "",
        dim: int | None = None,
    ) -> list[tuple[str, float]]:
        """Every row with a vector that matches: (id, cosine), best first, equal ones by last write."""
        names = [name for name in self.ids(where, namespace) if self.rows[namespace, name].vector is not None]
        names.sort(key=lambda name: self.rows[namespace, name].order)
        if not names:
            return []
        rows = np.stack([_given(self.rows[namespace, name].unit) for name in names])
        cosine = cosines(np.asarray(query), rows, dim)
        order = np.argsort(-cosine, kind="stable")
        return [(names[i], float(cosine[i])) for i in order]


def _given(unit: NDArray[np.float16] | None) -> NDArray[np.float16]:
    assert unit is not None
    return unit


def cosines(query: NDArray[Any], rows: NDArray[Any], dim: int | None = None) -> NDArray[np.float64]:
    """float64 [n]: cosine of the query with every row, of the first `dim` dimensions."""
    wide = np.asarray(rows, dtype=np.float64)[:, :dim]
    asked = np.asarray(query, dtype=np.float64)[:dim]
    lengths = np.linalg.norm(wide, axis=1) * np.linalg.norm(asked)
    return np.asarray(np.clip((wide @ asked) / np.where(lengths > 0, lengths, 1.0), -1.0, 1.0))


def grouped(
    oracle: Oracle, query: Any, path: str, k: int, size: int, where: Mapping[str, Any] | None
) -> list[tuple[Any, list[tuple[str, float]]]]:
    """The k groups with the best rows and their best rows, by the values at a path; a list has several."""
    groups: dict[tuple[str, Any], list[tuple[str, float]]] = {}
    for name, score in oracle.scores(query, where=where):
        values = values_at(oracle.rows["", name].metadata, path)
        for value in sorted(values, key=lambda one: (KINDS.index(one[0]), one[1])):
            groups.setdefault(value, []).append((name, score))
    return [(value, rows[:size]) for (_, value), rows in list(groups.items())[:k]]


def diverse(units: NDArray[Any], scores: Sequence[float], count: int, diversity: float) -> list[int]:
    """Maximal marginal relevance, as its definition has it."""
    wide, picked = np.asarray(units, dtype=np.float64), list[int]()
    wide = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    while len(picked) < min(count, len(wide)):
        merits: dict[int, float] = {}
        for row in set(range(len(wide))) - set(picked):
            alike = max([float(wide[row] @ wide[one]) for one in picked], default=0.0)
            merits[row] = (1 - diversity) * scores[row] - diversity * alike if picked else scores[row]
        picked.append(max(sorted(merits), key=lambda row: merits[row]))
    return picked


# --- comparisons ---------------------------------------------------------------------------------------


def assert_exact(
    hits: Sequence[Any],
    expected: Sequence[tuple[str, float]],
    k: int,
    tolerance: float = TOLERANCE,
) -> None:
    """The hits are the oracle's best k, in its order, but for scores that are equal within tolerance."""
    assert len(hits) == min(k, len(expected)), f"{len(hits)} hits, {min(k, len(expected))} rows match"
    truth = dict(expected)
    assert len({hit.id for hit in hits}) == len(hits), "an id twice in one answer"
    for rank, hit in enumerate(hits):
        assert hit.id in truth, f"rank {rank}: {hit.id!r} should not be in the answer"
        assert abs(hit.score - truth[hit.id]) <= tolerance, (rank, hit.id, hit.score, truth[hit.id])
        best = expected[rank][1]
        assert abs(hit.score - best) <= 2 * tolerance, (
            f"rank {rank}: {hit.id!r} scores {hit.score}, numpy has {expected[rank][0]!r} with {best}"
        )


def recall(hits: Sequence[Any], expected: Sequence[tuple[str, float]], k: int) -> float:
    """The share of the true best k that was found; rows that tie with the k-th count as true."""
    wanted = min(k, len(expected))
    if wanted == 0:
        return 1.0
    edge = expected[wanted - 1][1] - TOLERANCE
    truth = dict(expected)
    return sum(truth.get(hit.id, -2.0) >= edge for hit in hits) / wanted


def assert_same_rows(store: Any, oracle: Oracle, tolerance: float = 2e-3) -> None:
    """Everything in the store, by a scan of all namespaces, is what the oracle holds."""
    found = {
        (record.namespace, record.id): record
        for record in store.scan(namespace=None, include=("metadata", "document", "vector"))
    }
    missing, surplus = oracle.rows.keys() - found.keys(), found.keys() - oracle.rows.keys()
    assert not missing, f"{len(missing)} rows are lost: {sorted(missing)[:5]}"
    assert not surplus, f"{len(surplus)} rows should not be there: {sorted(surplus)[:5]}"
    for key, row in oracle.rows.items():
        record = found[key]
        assert record.metadata == row.metadata, (key, record.metadata, row.metadata)
        assert record.document == row.document, key
        assert_same_vector(record.vector, row.vector, key, tolerance)
    assert store.count(namespace=None) == len(oracle.rows)
    assert len(store) == oracle.namespaces().get("", 0)
    assert store.namespaces() == oracle.namespaces()


def assert_same_vector(got: Any, given: Any, what: object = "", tolerance: float = 2e-3) -> None:
    """The vector read back is the one given, at float16 precision of the unit row, in its own length."""
    if given is None:
        assert got is None, what
        return
    assert got is not None, f"{what}: the vector is gone"
    assert got.dtype == np.float32, what
    wide = np.asarray(given, dtype=np.float64)
    error = np.linalg.norm(got - wide) / np.linalg.norm(wide)
    assert error <= tolerance, (what, error)
