"""Checks of what callers pass to `Store`, but for batches of rows (see `batch`)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.checks import (
    check_count,
    check_flag,
    check_namespace,
    check_number,
    check_optional_count,
    check_progress,
    check_target,
    check_timeout,
)
from mrlstore.errors import InvalidInput
from mrlstore.search.group_search import NoDirection, Queries, prepare
from mrlstore.search.params import NOTHING, Asked, Wanted
from mrlstore.storage.vector_rows import as_array, as_matrix, check_dim, check_lengths
from mrlstore.system.job import Job
from mrlstore.types import LIMITS, Progress

ProgressCallback = Callable[[Progress], None]

_DEFAULT_WAIT_S = 3600.0
_SMALL, _LARGE = 1e-30, 1e37  # squared lengths that float32 holds without trouble
_PATH_BYTES = 450  # of SQLite's 512; the rest is for ".tmp-..." while a store is made, and names within it
_INCLUDE = ("metadata", "document", "vector")
_FLOAT32 = np.dtype(np.float32)


def check_path(path: object) -> Path:
    """A path to a store, made absolute, so that a later chdir does not matter."""
    import os

    try:
        text = os.fspath(path)  # type: ignore[call-overload]
    except TypeError as error:
        raise InvalidInput(f"path: expected a path, got {type(path).__name__}") from error
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidInput(f"path: {text!r} is not a path")
    place = Path(text).absolute()
    try:
        length = len(str(place).encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(f"path: {text!r} is not UTF-8, and SQLite opens no other paths") from error
    if length > _PATH_BYTES:
        raise InvalidInput(f"path: {length} bytes in all; SQLite opens paths of {_PATH_BYTES} or less")
    return place


def check_job(progress: ProgressCallback | None, timeout_s: float | None = None) -> Job:
    """A job that reports to `progress` and waits up to `timeout_s` for its turn, an hour by default."""
    wait_s = check_timeout(timeout_s)
    check_progress(progress)
    return Job.waiting(_DEFAULT_WAIT_S if wait_s is None else wait_s, progress)


def check_wanted(include: Iterable[str], min_score: float | None = None) -> Wanted:
    """What hits or records shall carry."""
    if isinstance(include, tuple) and not include and min_score is None:
        return NOTHING
    if isinstance(include, str) or not _iterable(include):
        raise InvalidInput(f"include: expected a tuple of {_INCLUDE}, got {include!r:.80}")
    try:
        chosen: tuple[object, ...] = tuple(include)
    except TypeError as error:  # an array without dimensions says that it is iterable
        raise InvalidInput(f"include: expected a tuple of {_INCLUDE} ({error})") from error
    for name in chosen:
        if not isinstance(name, str) or name not in _INCLUDE:
            raise InvalidInput(f"include: {name!r:.80} is not one of {_INCLUDE}")
    if min_score is not None:
        min_score = check_number(min_score, "min_score")
    return Wanted("metadata" in chosen, "document" in chosen, "vector" in chosen, min_score)


def _iterable(value: object) -> bool:
    return isinstance(value, Iterable)


def check_query_vectors(vectors: Any, dim: int | None, what: str) -> NDArray[np.float32]:
    """Query vectors [n, dim] with a direction, float32; their lengths are left to the kernels."""
    return _with_directions(check_query_shape(vectors, dim, what), what)


def check_query_shape(vectors: Any, dim: int | None, what: str) -> NDArray[np.float32]:
    """The same, but that float32 vectors are not looked at: `prepare` does so, and raises NoDirection."""
    if isinstance(vectors, list | tuple) and not vectors:
        return np.empty((0, dim or 0), dtype=np.float32)
    matrix = as_matrix(vectors, what)
    check_dim(matrix.shape[1], dim, what)
    return matrix if matrix.dtype == np.float32 else _with_directions(matrix, what)


def _with_directions(matrix: NDArray[Any], what: str) -> NDArray[np.float32]:
    if matrix.dtype != np.float32:
        wide = matrix.astype(np.float64)
        return np.asarray(wide / check_lengths(wide, what)[:, None], dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what is wrong is told below
        squares = np.vecdot(matrix, matrix)
    odd = ~((squares > _SMALL) & (squares < _LARGE))
    if not odd.any():
        return np.ascontiguousarray(matrix)
    lengths = check_lengths(matrix.astype(np.float64), what)
    units = np.array(matrix)  # the others stay as they are: a row's scores do not depend on its company
    units[odd] = matrix[odd] / lengths[odd, None]
    return units


def check_query(vector: Any, dim: int | None, prefix_dim: int | None) -> Queries:
    """One query vector [dim] with a direction, made ready."""
    if type(vector) is np.ndarray and vector.dtype == _FLOAT32 and vector.shape == (dim,):
        try:
            return prepare(vector, prefix_dim or len(vector))
        except NoDirection:
            pass  # what is wrong is told below
    elif isinstance(vector, str | bytes | Mapping):
        raise InvalidInput(f"vector: expected numbers of shape [dim], got {type(vector).__name__}")
    array = as_array(vector, "vector")
    if array.ndim != 1:
        raise InvalidInput(f"vector: expected shape [dim], got {list(array.shape)}; see query_batch for many")
    row = check_query_vectors(array[None, :], dim, "vector")
    return prepare(row, prefix_dim or row.shape[1])


def check_asked(
    k: object, namespace: str, target_recall: object, shortlist: object, ef: object, exact: object,
    dim: object, explain: object, include: object, min_score: object, full: int | None,
) -> Asked:  # fmt: skip
    """What `query` and `query_batch` take besides vectors and filters; `full` is the store's dim."""
    arguments = k, namespace, target_recall, shortlist, ef, exact, dim, explain, include, min_score, full
    try:
        remembered = _check_asked if type(include) is tuple else _check_asked.__wrapped__
        return remembered(*arguments)
    except TypeError:  # of something that can't be hashed; nothing else raises it
        return _check_asked.__wrapped__(*arguments)


@functools.lru_cache(maxsize=1_000, typed=True)  # callers ask for the same again and again
def _check_asked(
    k: object, namespace: str, target_recall: object, shortlist: object, ef: object, exact: object,
    dim: object, explain: object, include: Any, min_score: Any, full: int | None,
) -> Asked:  # fmt: skip
    wanted = check_wanted(include, min_score)
    count, target = check_count(k, "k", 1, LIMITS.k), check_target(target_recall)
    if target is not None and not (ef is None and shortlist is None):
        raise InvalidInput("target_recall: chooses ef and shortlist itself; give either it or them")
    return Asked(
        count,
        check_namespace(namespace),
        target,
        check_optional_count(shortlist, "shortlist", 1, LIMITS.k),
        check_optional_count(ef, "ef", 1, LIMITS.k),
        check_flag(exact, "exact"),
        check_optional_count(dim, "dim", 1, full),
        check_flag(explain, "explain"),
        wanted,
    )


def check_embedder(value: object) -> None:
    """Something that embeds, or None. Its fingerprint is not asked for yet: that may cost something."""
    lacking = [name for name in ("embed_documents", "embed_query") if not hasattr(value, name)]
    if value is not None and (lacking or isinstance(value, type)):
        what = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
        raise InvalidInput(
            f"embedder: expected an object with embed_documents and embed_query, got {what}; "
            "make one first, such as mrlstore.embedders.GeminiEmbedder()"
        )
