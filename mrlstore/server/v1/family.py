"""The routes of the server's own API."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from starlette.routing import BaseRoute, Route

from mrlstore.server.api_family import ApiFamily
from mrlstore.server.api_keys import Role
from mrlstore.server.bodies import dump
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import ServedIndex
from mrlstore.server.operations import Answer, GeneralOperation, Operation, QuickOperation, Serving
from mrlstore.server.refusals import invalid
from mrlstore.server.text_models import TextModels
from mrlstore.server.v1 import openapi
from mrlstore.server.v1.backups import Backups
from mrlstore.server.v1.call_arguments import arguments_of, options_of
from mrlstore.server.v1.declared import Arguments, Declared
from mrlstore.server.v1.error_shape import error_body
from mrlstore.server.v1.index_calls import IndexCalls
from mrlstore.server.v1.jobs import JobEndpoint, Report, Work
from mrlstore.server.v1.store_calls import CALLS

OPEN: Final = frozenset({"/v1/openapi.json"})  # needs no key
_INDEX: Final = "/v1/indexes/{index}"
_QUICK_K: Final = 100
_QUICK: Final = frozenset({"vector", "k", "namespace", "include", "min_score", "target_recall"})


def api_family(serving: Serving) -> ApiFamily:
    """The API over the indexes of a server."""
    return ApiFamily("v1", "/v1", _routes(serving), error_body)


def _routes(serving: Serving) -> list[BaseRoute]:
    indexes, backups = IndexCalls(serving), Backups(serving.root)
    one_backup = _INDEX + "/backups/{name}"
    general = (
        ("me", "GET", "/v1/me", Role.READ, indexes.me),
        ("list_indexes", "GET", "/v1/indexes", Role.READ, indexes.list),
        ("create_index", "POST", "/v1/indexes", Role.ADMIN, indexes.create),
        ("delete_index", "DELETE", _INDEX, Role.ADMIN, indexes.delete),
        ("list_backups", "GET", _INDEX + "/backups", Role.READ, backups.list),
        ("delete_backup", "DELETE", one_backup, Role.ADMIN, backups.delete),
        ("openapi", "GET", "/v1/openapi.json", Role.READ, lambda call, body: Answer(openapi.document())),
    )
    about_one = (
        ("describe_index", "GET", _INDEX, Role.READ, indexes.describe),
        ("audit", "POST", _INDEX + "/audit", Role.ADMIN, indexes.audit),
    )
    jobs = (
        ("backup", "POST", _INDEX + "/backups", Role.ADMIN, backups.create),
        ("restore", "POST", one_backup + "/restore", Role.ADMIN, backups.restore),
    )
    return [
        *(Route(f"{_INDEX}/{each.name}", _endpoint(serving, each), methods=["POST"]) for each in CALLS),
        *(
            Route(path, GeneralOperation(serving, name, role, work), methods=[method])
            for name, method, path, role, work in general
        ),
        *(
            Route(path, Operation(serving, name, role, work), methods=[method])
            for name, method, path, role, work in about_one
        ),
        *(
            Route(path, JobEndpoint(serving, name, role, prepare), methods=[method])
            for name, method, path, role, prepare in jobs
        ),
    ]


def _endpoint(serving: Serving, declared: Declared) -> JobEndpoint | QuickOperation[Arguments] | Operation:
    """The endpoint of a method of `Store`."""
    if declared.job:
        return JobEndpoint(serving, declared.name, declared.role, _job(serving, declared))

    def work(index: ServedIndex, call: HttpCall, given: Arguments) -> Answer:
        return Answer(dump(declared.work(index.store, dict(given), options_of(call))))

    models = TextModels(serving.root)
    if declared.name == "query":

        def query(index: ServedIndex, call: HttpCall, given: Arguments) -> Answer:
            return work(index, call, _with_text_embedded(models, index, given))

        return QuickOperation(
            serving, declared.name, lambda call, body: arguments_of(call, declared, body), _is_quick, query
        )

    def other(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        return work(index, call, _with_texts_embedded(models, index, arguments_of(call, declared, body)))

    return Operation(serving, declared.name, declared.role, other)


def _with_text_embedded(models: TextModels, index: ServedIndex, given: Arguments) -> Arguments:
    """The arguments with a vector in the place of a text; the store refuses several sources."""
    text = given.get("text")
    if text is None or any(given.get(name) is not None for name in ("vector", "id", "positive")):
        return given
    if not isinstance(text, str) or not text.strip():
        raise invalid("text: expected words to search for")
    embedder = models.embedder(index, None)
    if embedder is None:
        raise invalid("text: the model of the index has not been fitted yet; search by keywords")
    return {**given, "text": None, "vector": embedder.embed_query(text)}


def _with_texts_embedded(models: TextModels, index: ServedIndex, given: Arguments) -> Arguments:
    """The arguments of an upsert with vectors in the place of texts; documents are the texts by default."""
    if "texts" not in given:
        return given
    texts = given["texts"]
    if given.get("vectors") is not None:
        raise invalid("texts: give either texts or vectors")
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise invalid("texts: expected a list of strings that are not empty")
    embedder = models.embedder(index, None)
    if embedder is None:
        raise invalid("texts: the model of the index has not been fitted yet; give vectors")
    rest = {name: value for name, value in given.items() if name != "texts"}
    return {"documents": texts, **rest, "vectors": list(embedder.embed_documents(texts)) if texts else None}


def _job(serving: Serving, declared: Declared) -> Callable[[HttpCall, bytes], Work]:
    def prepare(call: HttpCall, body: bytes) -> Work:
        given, options = arguments_of(call, declared, body), options_of(call)
        name = str(call.scope["path_params"]["index"])

        def work(report: Report) -> object:
            def run(index: ServedIndex) -> object:
                place = os.fspath(index.store.path)
                return declared.work(index.store, dict(given), replace(options, progress=report, place=place))

            return serving.root.run(name, run)

        return work

    return prepare


def _is_quick(given: Arguments) -> bool:
    """Whether a query is of the usual kind: by a vector, for few rows of one namespace."""
    k, namespace = given.get("k", 10), given.get("namespace", "")
    plain = type(k) is int and k <= _QUICK_K and isinstance(namespace, str)
    return "vector" in given and given.keys() <= _QUICK and plain and given.get("target_recall") is None
