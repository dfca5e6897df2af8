"""Checks of the arguments of `Store`'s methods; batches of rows are checked in `writing.batch`."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from mrlstore.checks import (
    check_count,
    check_flag,
    check_namespaces,
    check_number,
    check_optional_count,
    check_progress,
    check_target,
    check_timeout,
    check_utf8,
)
from mrlstore.errors import InvalidInput
from mrlstore.search.params import NOTHING, Projection, QueryParams
from mrlstore.system.job import Job
from mrlstore.types import LIMITS, Progress

ProgressCallback = Callable[[Progress], None]

_DEFAULT_WAIT_S = 3600.0
_PATH_BYTES = 450  # SQLite opens paths of 512 bytes; the rest is for the names of files within the store
_INCLUDE = ("metadata", "document", "vector")

P = ParamSpec("P")
T = TypeVar("T")


def check_path(path: object) -> Path:
    """A path to a store, made absolute, so that a later chdir does not matter."""
    text = _text_of(path, "path")
    _refuse_other_addresses(text)
    place = Path(text).absolute()
    try:
        length = len(str(place).encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(f"path: {text!r} is not UTF-8, and SQLite opens no other paths") from error
    if length > _PATH_BYTES:
        raise InvalidInput(f"path: {length} bytes in all; SQLite opens paths of {_PATH_BYTES} or less")
    return place


def check_file(path: object, name: str) -> Path:
    """A path to a file, made absolute."""
    return Path(_text_of(path, name)).absolute()


def _text_of(path: object, name: str) -> str:
    """A path as text."""
    import os

    try:
        text = os.fspath(path)  # type: ignore[call-overload]
    except TypeError as error:
        raise InvalidInput(f"{name}: expected a path, got {type(path).__name__}") from error
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidInput(f"{name}: {text!r} is not a path")
    return text


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")  # "s3://x", and "s3:/x", which pathlib makes of it


def _refuse_other_addresses(text: str) -> None:
    """Refuse `~`, `:memory:` and URLs, which other programs understand and here would become folders."""
    scheme = _SCHEME.match(text)
    if scheme:
        raise InvalidInput(
            f"path: {text!r} is a URL of {scheme[1]!r}; a store is a folder on a local disk (`ship` and "
            "`mrlstore.shipping.restore` copy it to object storage and back)"
        )
    if text == ":memory:":
        raise InvalidInput("path: ':memory:': a store is a folder; tempfile.mkdtemp() makes one for a while")
    if text.startswith("~"):
        raise InvalidInput(
            f"path: {text!r}: only a shell expands ~; give Path(...).expanduser(), or ./ before such a name"
        )


def check_job(progress: ProgressCallback | None, timeout_s: float | None = None) -> Job:
    """A job that reports to `progress` and waits up to `timeout_s` for its turn, an hour by default."""
    wait_s = check_timeout(timeout_s)
    check_progress(progress)
    return Job.waiting(_DEFAULT_WAIT_S if wait_s is None else wait_s, progress)


def check_shipping(every_s: object, keep: object) -> None:
    """The seconds between two snapshots, and how many stay."""
    if not 0 <= check_number(every_s, "every_s") <= 86_400:
        raise InvalidInput(f"every_s: expected seconds from 0 to 86,400, got {every_s}")
    check_count(keep, "keep", 2, 10_000)


def check_prefix(prefix: object) -> str | None:
    """The beginning of ids, or None."""
    if prefix is None:
        return None
    if not isinstance(prefix, str):
        raise InvalidInput(f"prefix: expected a string, got {type(prefix).__name__}")
    check_utf8(prefix, "prefix")
    return prefix


def check_projection(include: Iterable[str]) -> Projection:
    """What hits or records carry."""
    if isinstance(include, tuple) and not include:
        return NOTHING
    if isinstance(include, str) or not _iterable(include):
        hint = f': write ("{include}",)' if include in _INCLUDE else ""
        raise InvalidInput(f"include: expected a tuple of {_INCLUDE}, got {include!r:.80}{hint}")
    try:
        chosen: tuple[object, ...] = tuple(include)
    except TypeError as error:  # a 0-dimensional array claims to be iterable
        raise InvalidInput(f"include: expected a tuple of {_INCLUDE} ({error})") from error
    for name in chosen:
        if not isinstance(name, str) or name not in _INCLUDE:
            raise InvalidInput(f"include: {name!r:.80} is not one of {_INCLUDE}")
    return Projection("metadata" in chosen, "document" in chosen, "vector" in chosen) if chosen else NOTHING


def _iterable(value: object) -> bool:
    return isinstance(value, Iterable)


def _remembered(check: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """The same check, which remembers what it gave: callers pass the same arguments again and again.

    The first argument is remembered only if it is a tuple: an iterator can be used once.
    """
    known = cast("Callable[Concatenate[Any, P], T]", functools.lru_cache(maxsize=1_000, typed=True)(check))

    @functools.wraps(check)
    def checked(first: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if type(first) is not tuple:
            return check(first, *args, **kwargs)
        try:
            return known(first, *args, **kwargs)
        except TypeError:  # of an argument that cannot be hashed; the check itself raises none
            return check(first, *args, **kwargs)

    return checked


@_remembered
def check_params(
    include: Any, k: object, namespace: object, min_score: object, target_recall: object, shortlist: object,
    ef: object, exact: object, dim: object, explain: object, full_dim: int | None,
) -> QueryParams:  # fmt: skip
    """What `query` and `query_batch` take beside vectors and filters; `full_dim` is the store's dim."""
    projection, count = check_projection(include), check_count(k, "k", 1, LIMITS.k)
    target = check_target(target_recall)
    if target is not None and not (ef is None and shortlist is None):
        raise InvalidInput("target_recall: chooses ef and shortlist itself; give either it or them")
    return QueryParams(
        count,
        check_namespaces(namespace),
        projection,
        None if min_score is None else check_number(min_score, "min_score"),
        target,
        check_optional_count(shortlist, "shortlist", 1, LIMITS.k),
        check_optional_count(ef, "ef", 1, LIMITS.k),
        check_flag(exact, "exact"),
        check_optional_count(dim, "dim", 1, full_dim),
        check_flag(explain, "explain"),
    )


def check_embedder(value: object) -> None:
    """An embedder, or None. Its fingerprint is not read yet, since that may call a paid service."""
    lacking = [name for name in ("embed_documents", "embed_query") if not hasattr(value, name)]
    if value is not None and (lacking or isinstance(value, type)):
        what = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
        raise InvalidInput(
            f"embedder: expected an object with embed_documents and embed_query, got {what}; "
            "make one first, such as mrlstore.embedders.GeminiEmbedder()"
        )
