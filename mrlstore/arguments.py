"""Checks of what callers pass to `Store`, but for batches of rows (see `batch`)."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.batch import check_namespace
from mrlstore.errors import InvalidInput, LimitExceeded
from mrlstore.types import LIMITS
from mrlstore.vectors import as_array, as_matrix, check_dim, check_lengths
from mrlstore.wanted import NOTHING, Asked, Wanted
from mrlstore.ways import NoDirection, Queries, prepare

_SMALL, _LARGE = 1e-30, 1e37  # squared lengths that float32 holds without trouble
_PATH_BYTES = 450  # of SQLite's 512; the rest is for ".tmp-..." while a store is made, and names within it
_INCLUDE = ("metadata", "document", "vector")
_FLOAT32 = np.dtype(np.float32)


def check_target(value: object) -> float | None:
    """A recall above 0 and up to 1, or None."""
    if value is None:
        return None
    if not _is_finite(value) or not 0 < value <= 1:  # type: ignore[operator]
        raise InvalidInput(f"target_recall: expected a number above 0 and up to 1, got {value!r:.40}")
    return float(value)  # type: ignore[arg-type]


def check_share(value: object, name: str) -> float:
    """A number from 0 to 1."""
    if not _is_finite(value) or not 0 <= value <= 1:  # type: ignore[operator]
        raise InvalidInput(f"{name}: expected a number from 0 to 1, got {value!r:.40}")
    return float(value)  # type: ignore[arg-type]


def check_number(value: object, name: str) -> float:
    """A finite number."""
    if not _is_finite(value):
        raise InvalidInput(f"{name}: expected a finite number, got {value!r:.40}")
    return float(value)  # type: ignore[arg-type]


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


def check_count(value: object, name: str, low: int, high: int | None = None) -> int:
    """A whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InvalidInput(f"{name}: expected a whole number, got {type(value).__name__} {value!r:.40}")
    if value < low:
        raise InvalidInput(f"{name}: {value} is less than {low}")
    if high is not None and value > high:
        raise LimitExceeded(f"{name}: {value} is more than {high}")
    return int(value)


def check_counts(values: object, name: str, low: int, high: int | None = None) -> list[int]:
    """Several whole numbers from `low` to `high`, in their order."""
    try:
        given = iter(values)  # type: ignore[call-overload]
    except TypeError as error:  # an array without dimensions only says that it is iterable
        raise InvalidInput(f"{name}: expected whole numbers, got {type(values).__name__}") from error
    return [check_count(one, name, low, high) for one in given]


def check_optional_count(value: object, name: str, low: int, high: int | None = None) -> int | None:
    """The same, or None."""
    return None if value is None else check_count(value, name, low, high)


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
    if min_score is not None and not _is_finite(min_score):
        raise InvalidInput(f"min_score: expected a finite number, got {min_score!r:.40}")
    return Wanted("metadata" in chosen, "document" in chosen, "vector" in chosen, min_score)


def _iterable(value: object) -> bool:
    return isinstance(value, Iterable)


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False


def check_timeout(value: object) -> float | None:
    """Seconds to wait, 0 or more, or None."""
    if value is None or (isinstance(value, float) and value == math.inf):
        return value
    if not _is_finite(value) or value < 0:  # type: ignore[operator]
        raise InvalidInput(f"timeout_s: expected seconds, 0 or more, got {value!r:.40}")
    return float(value)  # type: ignore[arg-type]


def check_progress(value: object) -> None:
    """Something that can be called, or None."""
    if value is not None and not callable(value):
        raise InvalidInput(f"progress: expected a function of one argument, got {type(value).__name__}")


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


def check_flag(value: object, name: str) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidInput(f"{name}: expected True or False, got {value!r:.40}")
    return bool(value)


def check_choice(value: object, name: str, choices: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidInput(f"{name}: {value!r:.40} is not one of {choices}")
    return value


def check_embedder(value: object) -> None:
    """Something that embeds, or None. Its fingerprint is not asked for yet: that may cost something."""
    lacking = [name for name in ("embed_documents", "embed_query") if not hasattr(value, name)]
    if value is not None and (lacking or isinstance(value, type)):
        what = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
        raise InvalidInput(
            f"embedder: expected an object with embed_documents and embed_query, got {what}; "
            "make one first, such as mrlstore.embedders.GeminiEmbedder()"
        )
