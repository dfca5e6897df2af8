"""An app on the client of Chroma, unmodified; nothing in it knows of mrlstore.

Run by the client's interpreter: `python chroma_app.py URL COLLECTION`, with the key in CHROMA_API_KEY. Most
checks make the same call on the server and on Chroma itself, in this process, and compare the answers. Prints
a line for each check that holds; an exception is a failure.
"""

from __future__ import annotations

import math
import os
import random
import sys
from collections.abc import Callable
from typing import Any

import chromadb
from chromadb.config import Settings

URL, NAME = sys.argv[1:]
DIM = 64
RANDOM = random.Random(0)
VECTORS = [[RANDOM.uniform(-1, 1) for _ in range(DIM)] for _ in range(40)]
IDS = [f"doc {n:02}/é" for n in range(30)]
EVERYTHING: Any = ["metadatas", "documents", "distances", "embeddings"]
STORED: Any = ["metadatas", "documents", "embeddings"]


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(number * number for number in vector))
    return [number / length for number in vector]


def metadata(n: int) -> dict[str, Any] | None:
    if n % 10 == 9:
        return None
    made: dict[str, Any] = {"year": 2000 + n, "genre": "abc"[n % 3], "price": n / 4}
    if n % 2:
        made["draft"] = n % 4 == 1
    if n % 5 == 0:
        made["tags"] = ["x", "y"] if n % 2 else ["y"]
    return made


def document(n: int) -> str | None:
    return None if n % 6 == 5 else f"Text {n} about {'moons' if n % 2 else 'bees'}"


def near(one: Any, other: Any) -> bool:
    """Whether two answers are equal but for rounding to 16 bits a number."""
    if isinstance(one, float) or isinstance(other, float):
        return one is not None and other is not None and abs(one - other) < 2e-3
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(near, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(near(one[key], other[key]) for key in one)
    return bool(one == other)


def plain(answer: Any) -> Any:
    """Answers without numpy; records by their ids, because their order is not the same."""
    if hasattr(answer, "tolist"):
        return [float(number) for number in answer.tolist()] if answer.ndim == 1 else plain(list(answer))
    if isinstance(answer, list):
        return [plain(each) for each in answer]
    if isinstance(answer, dict) and "ids" in answer and "distances" not in answer:
        return by_id(answer)
    if isinstance(answer, dict):
        return {key: plain(value) for key, value in answer.items() if key != "included"}
    return answer


def by_id(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for at, id in enumerate(answer["ids"]):
        parts = {key: plain(answer[key]) for key in STORED if answer.get(key) is not None}
        found[id] = {key: part[at] for key, part in parts.items()}
    return found


def served_with(key: str) -> Any:
    settings = Settings(anonymized_telemetry=False)
    return chromadb.HttpClient(host=URL, headers={"X-Chroma-Token": key}, settings=settings)


class Both:
    """The server's client and Chroma itself."""

    def __init__(self) -> None:
        self.served = served_with(os.environ.get("CHROMA_API_KEY", ""))
        self.local = chromadb.EphemeralClient(settings=Settings(anonymized_telemetry=False))

    def same(self, name: str, call: Callable[[Any], Any]) -> Any:
        served, local = plain(call(self.served)), plain(call(self.local))
        if not near(served, local):
            raise AssertionError(f"{name}:\nserved {served}\nlocal  {local}")
        print(f"ok {name}", flush=True)
        return served

    def records(self, name: str, call: Callable[[Any], Any]) -> Any:
        """The same with the collection of each."""
        return self.same(name, lambda client: call(client.get_collection(NAME)))


def check(name: str, holds: Any) -> None:
    if not holds:
        raise AssertionError(name)
    print(f"ok {name}", flush=True)


def refused(call: Callable[[], Any], *words: str) -> bool:
    try:
        call()
    except Exception as error:
        return all(word in f"{type(error).__name__}: {error}" for word in words)
    return False


WHERES: list[dict[str, Any]] = [
    {"year": 2003},
    {"genre": "a"},
    {"draft": True},
    {"price": {"$gt": 1.5}},
    {"year": {"$gte": 2010}},
    {"year": {"$lt": 2004}},
    {"genre": {"$ne": "a"}},
    {"draft": {"$ne": True}},
    {"year": {"$in": [2001, 2002, 2050]}},
    {"genre": {"$nin": ["a", "b"]}},
    {"absent": {"$ne": 1}},
    {"absent": 1},
    {"tags": {"$contains": "x"}},
    {"tags": {"$not_contains": "x"}},
    {"tags": "y"},
    {"genre": {"$contains": "a"}},
    {"$and": [{"genre": "a"}, {"year": {"$gt": 2005}}]},
    {"$or": [{"genre": "a"}, {"$and": [{"draft": False}, {"price": {"$lte": 3}}]}]},
]
DOCUMENTS: list[dict[str, Any]] = [
    {"$contains": "moons"},
    {"$contains": "Moons"},
    {"$not_contains": "moons"},
    {"$and": [{"$contains": "moons"}, {"$contains": "Text 1"}]},
    {"$or": [{"$contains": "Text 2"}, {"$contains": "Text 7 "}]},
]


def collections(both: Both) -> None:
    cosine: Any = {"hnsw": {"space": "cosine"}}
    for client in (both.served, both.local):
        client.create_collection(NAME, configuration=cosine, metadata={"owner": "b"}, embedding_function=None)
    both.same("metadata", lambda client: client.get_collection(NAME).metadata)
    both.same("get_or_create", lambda client: client.get_or_create_collection(NAME).name)
    check("list", NAME in [each.name for each in both.served.list_collections()])
    check("count collections", both.served.count_collections() >= 1)
    check("heartbeat", both.served.heartbeat() > 0 and both.served.get_version())
    space = both.served.get_collection(NAME).configuration_json["hnsw"]["space"]
    check("space", space == "cosine")
    check("again", refused(lambda: both.served.create_collection(NAME), "UniqueConstraintError"))
    check("absent", refused(lambda: both.served.get_collection("absent"), "NotFoundError"))


def writes(both: Both) -> None:
    def rows(start: int, end: int) -> dict[str, Any]:
        chosen = range(start, end)
        return {
            "ids": [IDS[n] for n in chosen],
            "embeddings": [VECTORS[n] for n in chosen],
            "metadatas": [metadata(n) for n in chosen],
            "documents": [document(n) for n in chosen],
        }

    both.records("add", lambda c: c.add(**rows(0, 20)))
    both.records("upsert", lambda c: c.upsert(**rows(18, 30)))
    both.records("count", lambda c: c.count())
    again: Any = {"ids": IDS[:1], "embeddings": VECTORS[30:31], "metadatas": [{"year": 1}]}
    both.records("add again", lambda c: c.add(**again))
    both.records("unchanged", lambda c: c.get(ids=IDS[:1], include=STORED))


def reads(both: Both) -> None:
    both.records("get", lambda c: c.get(ids=[IDS[3], "absent", IDS[1]], include=STORED))
    both.records("get all", lambda c: c.get())
    check("limit and offset", len(both.served.get_collection(NAME).get(limit=7, offset=26)["ids"]) == 4)
    check("peek", len(both.served.get_collection(NAME).peek(5)["ids"]) == 5)
    both.records("query", lambda c: c.query(query_embeddings=VECTORS[31:32], n_results=5, include=EVERYTHING))
    both.records("two queries", lambda c: c.query(query_embeddings=VECTORS[31:33], n_results=3))
    chosen = IDS[:6]
    both.records("query ids", lambda c: c.query(query_embeddings=VECTORS[31:32], n_results=3, ids=chosen))
    for where in WHERES:
        filtered(both, {"where": where})
    for where in DOCUMENTS:
        filtered(both, {"where_document": where})
    filtered(both, {"where": {"genre": "a"}, "where_document": {"$contains": "moons"}})


def filtered(both: Both, chosen: dict[str, Any]) -> None:
    both.records(f"get {chosen}", lambda c: c.get(**chosen))
    both.records(f"query {chosen}", lambda c: c.query(query_embeddings=VECTORS[33:34], n_results=4, **chosen))


def changes(both: Both) -> None:
    def after(name: str, call: Callable[[Any], Any]) -> None:
        both.records(name, call)
        both.records(f"after {name}", lambda c: c.get(include=STORED))

    merged: Any = {"ids": [IDS[0], "new"], "embeddings": VECTORS[34:36], "metadatas": [{"year": 7}, {"a": 1}]}
    after("upsert again", lambda c: c.upsert(**merged))
    partly: Any = {"ids": [IDS[1], "absent"], "metadatas": [{"year": 1990, "genre": None}, {"year": 1}]}
    after("update", lambda c: c.update(**partly))
    moved: Any = {"ids": [IDS[2]], "embeddings": VECTORS[36:37], "documents": ["other"]}
    after("update vector and document", lambda c: c.update(**moved))
    for client in (both.served, both.local):
        found = client.get_collection(NAME)
        found.delete(ids=[IDS[3], "absent"])
        found.delete(where={"genre": "b"})
        found.delete(where_document={"$contains": "Text 2"})
    both.records("after deletes", lambda c: c.get(include=STORED))
    both.records("count after", lambda c: c.count())
    both.same("modify", lambda client: client.get_collection(NAME).modify(metadata={"owner": "c"}))
    both.same("modified", lambda client: client.get_collection(NAME).metadata)


def other_spaces(both: Both) -> None:
    """Chroma's default, the squared Euclidean distance, and the inner product, of vectors of length 1."""
    rows = [unit(vector) for vector in VECTORS[:10]]
    for space in ("l2", "ip"):
        name, configuration = f"{NAME}-{space}", {"hnsw": {"space": space}}
        for client in (both.served, both.local):
            made = client.create_collection(name, configuration=configuration, embedding_function=None)
            made.add(ids=IDS[:10], embeddings=rows)
        answered(both, f"query by {space}", name)
        both.served.delete_collection(name)
    default = both.served.create_collection(f"{NAME}-default", embedding_function=None)
    check("not of length 1", refused(lambda: default.add(ids=["a"], embeddings=[[1.0, 2.0]]), "length 1"))
    both.served.delete_collection(f"{NAME}-default")


def answered(both: Both, title: str, name: str) -> None:
    question = [unit(VECTORS[30])]
    both.same(title, lambda c: c.get_collection(name).query(query_embeddings=question, n_results=4))


def refusals(both: Both) -> None:
    found = both.served.get_collection(NAME)
    check("dimension", refused(lambda: found.query(query_embeddings=[[1.0, 2.0]]), "InvalidArgument", "64"))
    check("regex", refused(lambda: found.get(where_document={"$regex": "a"}), "InvalidArgument", "$regex"))
    check("rename", refused(lambda: found.modify(name="other"), "renamed"))
    check("reset", refused(both.served.reset))
    check("wrong key", refused(lambda: served_with("mrl_00000000_wrong"), "key is not known"))


def main() -> None:
    both = Both()
    collections(both)
    writes(both)
    reads(both)
    changes(both)
    other_spaces(both)
    refusals(both)
    both.served.delete_collection(NAME)
    check("deleted", refused(lambda: both.served.get_collection(NAME), "NotFoundError"))


main()
