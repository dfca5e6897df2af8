"""The methods of `Store` that the API has, and what each answers."""

from __future__ import annotations

from typing import Any, Final

from mrlstore.api.store import Store
from mrlstore.recall.calibrate import Calibration
from mrlstore.recall.tiers import TierReport
from mrlstore.server.api_keys import Role
from mrlstore.server.bodies import shown
from mrlstore.server.refusals import invalid
from mrlstore.server.v1.declared import (
    AT_LEAST_ONE,
    COUNT,
    DOCUMENTS,
    EXAMPLES,
    FLAG,
    IDS,
    INCLUDE,
    METADATAS,
    NUMBER,
    NUMBERS,
    ONE_OR_ALL,
    ONE_SPACE,
    SPACES,
    TEXT,
    TEXTS,
    VECTOR,
    VECTORS,
    WHERE,
    Arguments,
    Declared,
    Options,
)
from mrlstore.types import (
    LIMITS,
    BatchResult,
    DuplicateGroup,
    Facet,
    Record,
    RepairReport,
    Result,
    Settings,
    Stats,
    VerifyReport,
)
from mrlstore.wire import duplicates_json, record_json, result_json, to_plain

_PAGE: Final = 100  # rows of a page of `scan` where no limit is given
_GROUPS: Final = 1_000  # of `duplicates` where no limit is given
_MAX_PAGE: Final = 10_000


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_COUNTED: Final = _object(count=COUNT)
_RECORDS: Final = _object(records={"type": "array", "items": Record})
_EFFORT: Final = {
    "include": INCLUDE,
    "min_score": NUMBER,
    "target_recall": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "shortlist": AT_LEAST_ONE,
    "ef": AT_LEAST_ONE,
    "exact": FLAG,
    "dim": AT_LEAST_ONE,
    "explain": FLAG,
}
_FINGERPRINT: Final = {"type": ["string", "object", "null"]}
_K: Final = {"type": "integer", "minimum": 1, "maximum": LIMITS.k, "default": 10}


def _upsert(store: Store, given: Arguments, options: Options) -> Any:
    if "vectors" not in given:
        given["vectors"] = None
    return {"count": store.upsert(**given)}


def _query(store: Store, given: Arguments, options: Options) -> Any:
    result = store.query(**given)
    return result_json(result, plan=options.plan, as_base64=options.as_base64)


def _query_batch(store: Store, given: Arguments, options: Options) -> Any:
    answers = store.query_batch(**given)
    return {"results": [result_json(one, plan=options.plan, as_base64=options.as_base64) for one in answers]}


def _records(records: list[Record], options: Options) -> list[dict[str, Any]]:
    return [record_json(record, as_base64=options.as_base64) for record in records]


def _scan(store: Store, given: Arguments, options: Options) -> Any:
    """One page, and the cursor of the next where there is one."""
    limit = given.pop("limit", _PAGE)
    if type(limit) is not int or not 1 <= limit <= _MAX_PAGE:
        raise invalid(f"limit: expected 1 to {_MAX_PAGE:,}, got {shown(limit)}")
    rows = list(store.scan(limit=limit + 1, **given))
    more = len(rows) > limit
    return {
        "records": _records(rows[:limit], options), "next": rows[limit - 1].cursor if more else None
    }  # fmt: skip


def _duplicates(store: Store, given: Arguments, options: Options) -> Any:
    """Groups up to a limit, and whether there are more."""
    limit = given.pop("limit", _GROUPS)
    if type(limit) is not int or not 0 <= limit <= _MAX_PAGE:
        raise invalid(f"limit: expected 0 to {_MAX_PAGE:,}, got {shown(limit)}")
    groups = list(store.duplicates(limit=limit + 1, progress=options.progress, **given))
    return {
        "groups": [duplicates_json(group, as_base64=options.as_base64) for group in groups[:limit]],
        "more": len(groups) > limit,
    }  # fmt: skip


def _namespaces(store: Store, given: Arguments, options: Options) -> Any:
    """Rows of each namespace that the key opens."""
    counts = store.namespaces().items()
    return {"namespaces": {name: count for name, count in counts if options.grant.may_enter(name)}}


def _stats(store: Store, given: Arguments, options: Options) -> Any:
    return {**to_plain(store.stats()), "path": ""}


def _without_paths(report: Any, options: Options) -> Any:
    """A report in which no path of this machine stands: paths within the store are relative to it."""
    if isinstance(report, dict):
        return {name: _without_paths(value, options) for name, value in report.items()}
    if isinstance(report, list):
        return [_without_paths(value, options) for value in report]
    if isinstance(report, str):
        return report.replace(options.place + "/", "").replace(options.place, "")
    return report


def _verify(store: Store, given: Arguments, options: Options) -> Any:
    return _without_paths(to_plain(store.verify(options.progress)), options)


def _repair(store: Store, given: Arguments, options: Options) -> Any:
    return _without_paths(to_plain(store.repair(options.progress, **given)), options)


def _optimize(store: Store, given: Arguments, options: Options) -> Any:
    store.optimize(options.progress, **given)
    return None


def _set_prefix_dim(store: Store, given: Arguments, options: Options) -> Any:
    store.set_prefix_dim(given.pop("prefix_dim"), options.progress, **given)
    return None


def _set_graph(store: Store, given: Arguments, options: Options) -> Any:
    store.set_graph(given.pop("graph"), options.progress, **given)
    return None


def _calibrate(store: Store, given: Arguments, options: Options) -> Any:
    return to_plain(store.calibrate(progress=options.progress, **given))


def _tier_report(store: Store, given: Arguments, options: Options) -> Any:
    judged = given.get("qrels")
    if isinstance(judged, dict):  # names of JSON are strings
        if not all(name.isdecimal() for name in judged):
            raise invalid("qrels: expected an object whose names are numbers of queries")
        given["qrels"] = {int(name): grades for name, grades in judged.items()}
    return _without_paths(to_plain(store.tier_report(progress=options.progress, **given)), options)


READ, WRITE, ADMIN = Role.READ, Role.WRITE, Role.ADMIN
_WAIT: Final = {"timeout_s": {"type": "number", "minimum": 0}}
CALLS: Final = (
    Declared(
        "query", READ, "The k rows most similar to a vector, a row, examples, a text or keywords.",
        {"vector": VECTOR, "k": _K, "id": TEXT, "text": TEXT, "where": WHERE, "namespace": SPACES, **_EFFORT,
         "keywords": TEXT, "weights": NUMBERS, "positive": EXAMPLES, "negative": EXAMPLES, "offset": COUNT,
         "group_by": TEXT, "group_size": AT_LEAST_ONE, "diversity": NUMBER, "candidates": AT_LEAST_ONE,
         "ties": {"enum": ["key", "id"]}},
        Result, _query,
    ),
    Declared(
        "query_batch", READ, "The answers to many queries, each as `query` gives it.",
        {"vectors": VECTORS, "k": _K, "where": WHERE, "namespace": SPACES, **_EFFORT},
        BatchResult, _query_batch, ("vectors",),
    ),
    Declared(
        "upsert", WRITE, "Store rows, all of them or none; durable when this is answered.",
        {"ids": IDS, "vectors": VECTORS, "texts": TEXTS, "metadatas": METADATAS, "documents": DOCUMENTS,
         "namespace": ONE_SPACE, "on_conflict": {"enum": ["replace", "skip", "error"], "default": "replace"}},
        _COUNTED, _upsert, ("ids",),
    ),
    Declared(
        "embedder_fingerprint", READ, "Which embedder's vectors the store holds; null: none is recorded.", {},
        _object(fingerprint=_FINGERPRINT),
        lambda store, given, options: {"fingerprint": store.embedder_fingerprint},
    ),
    Declared(
        "record_embedder", WRITE, "Say by which embedder the rows are embedded; refused where another is.",
        {"fingerprint": _FINGERPRINT}, {"type": "null"},
        lambda store, given, options: store.record_embedder(**given), ("fingerprint",), whole_store=True,
    ),
    Declared(
        "update", WRITE, "Change parts of rows that exist, by id or by filter.",
        {"ids": IDS, "metadatas": {"oneOf": [METADATAS, {"type": "object"}]}, "documents": DOCUMENTS,
         "vectors": VECTORS, "where": WHERE, "namespace": ONE_SPACE},
        _COUNTED, lambda store, given, options: {"count": store.update(**given)},
    ),
    Declared(
        "delete", WRITE, "Remove rows that meet all of what is given.",
        {"ids": IDS, "where": WHERE, "prefix": TEXT, "namespace": ONE_SPACE},
        _COUNTED, lambda store, given, options: {"count": store.delete(**given)},
    ),
    Declared(
        "clear", WRITE, "Remove all rows of a namespace.", {"namespace": ONE_SPACE},
        _COUNTED, lambda store, given, options: {"count": store.clear(**given)},
    ),
    Declared(
        "get", READ, "Rows by id, by filter, or both.",
        {"ids": IDS, "where": WHERE, "limit": COUNT, "namespace": ONE_SPACE, "include": INCLUDE},
        _RECORDS, lambda store, given, options: {"records": _records(store.get(**given), options)},
    ),
    Declared(
        "scan", READ, "One page of rows in order; `next` goes into `after` for the next page.",
        {"where": WHERE, "namespace": ONE_OR_ALL, "prefix": TEXT, "include": INCLUDE,
         "limit": {"type": "integer", "minimum": 1, "maximum": _MAX_PAGE, "default": _PAGE}, "after": TEXT,
         "order_by": TEXT, "descending": FLAG},
        _object(records={"type": "array", "items": Record}, next={"type": ["string", "null"]}), _scan,
    ),
    Declared(
        "count", READ, "How many rows match.", {"where": WHERE, "namespace": ONE_OR_ALL},
        _COUNTED, lambda store, given, options: {"count": store.count(**given)},
    ),
    Declared(
        "namespaces", READ, "How many rows each namespace has, of those that the key opens.", {},
        _object(namespaces={"type": "object", "additionalProperties": COUNT}), _namespaces,
    ),
    Declared(
        "facets", READ, "Which values a metadata field has, and in how many rows each stands.",
        {"field": TEXT, "where": WHERE, "namespace": ONE_OR_ALL, "limit": AT_LEAST_ONE},
        _object(facets={"type": "array", "items": Facet}),
        lambda store, given, options: {"facets": to_plain(store.facets(**given))}, ("field",),
    ),
    Declared(
        "sample", READ, "Up to n different rows, chosen by chance.",
        {"n": COUNT, "where": WHERE, "namespace": ONE_OR_ALL, "seed": {"type": "integer"},
         "include": INCLUDE},
        _RECORDS, lambda store, given, options: {"records": _records(store.sample(**given), options)}, ("n",),
    ),
    Declared(
        "duplicates", WRITE, "Groups of rows whose vectors are nearly equal, and whether there are more.",
        {"above": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 0.98}, "where": WHERE,
         "namespace": SPACES, "include": INCLUDE,
         "limit": {"type": "integer", "minimum": 0, "maximum": _MAX_PAGE, "default": _GROUPS}},
        _object(groups={"type": "array", "items": DuplicateGroup}, more={"type": "boolean"}), _duplicates,
        job=True,
    ),
    Declared(
        "settings", READ, "What the store was created with.", {},
        Settings, lambda store, given, options: to_plain(store.settings),
    ),
    Declared(
        "stats", READ, "The state of the store: rows, segments, bytes. `path` is empty.", {},
        Stats, _stats, whole_store=True,
    ),
    Declared(
        "warm", READ, "Bring codes and graphs into memory.", {},
        {"type": "null"}, lambda store, given, options: store.warm(), whole_store=True,
    ),
    Declared(
        "optimize", WRITE, "Flush, merge and index everything, and give disk space back.", _WAIT,
        {"type": "null"}, _optimize, job=True, whole_store=True,
    ),
    Declared(
        "calibrate", WRITE, "Learn how much effort gives which recall on this store.",
        {"queries": VECTORS, "k": {"oneOf": [AT_LEAST_ONE, {"type": "array", "items": AT_LEAST_ONE}]},
         "namespace": ONE_SPACE, "count": AT_LEAST_ONE},
        Calibration, _calibrate, job=True, whole_store=True,
    ),
    Declared(
        "tier_report", READ, "Compare the lengths of prefixes, alone and in two stages.",
        {"queries": VECTORS, "k": AT_LEAST_ONE, "dims": {"type": "array", "items": AT_LEAST_ONE},
         "namespace": ONE_SPACE, "qrels": {"type": "object"}, "by": TEXT, "count": AT_LEAST_ONE,
         "sample": AT_LEAST_ONE},
        TierReport, _tier_report, job=True, whole_store=True,
    ),
    Declared(
        "drop_questions", ADMIN, "Delete the live questions that the audit has kept.", {},
        _COUNTED, lambda store, given, options: {"count": store.drop_questions()}, whole_store=True,
    ),
    Declared(
        "verify", ADMIN, "Check every checksum, range and cross-reference.", {},
        VerifyReport, _verify, job=True, whole_store=True,
    ),
    Declared(
        "repair", ADMIN, "Rebuild damaged indexes and columns, and keep every row that is whole.", _WAIT,
        RepairReport, _repair, job=True, whole_store=True,
    ),
    Declared(
        "set_prefix_dim", ADMIN, "Index another length of prefix, in place.",
        {"prefix_dim": AT_LEAST_ONE, **_WAIT},
        {"type": "null"}, _set_prefix_dim, ("prefix_dim",), job=True, whole_store=True,
    ),
    Declared(
        "set_graph", ADMIN, "Have other software build the graphs, and build all of them anew.",
        {"graph": {"enum": ["mrlstore", "hnswlib"]}, **_WAIT},
        {"type": "null"}, _set_graph, ("graph",), job=True, whole_store=True,
    ),
)  # fmt: skip
