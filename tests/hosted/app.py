"""An app on Pinecone's Python SDK, of whichever version; nothing in it knows of mrlstore.

Run by the SDK's interpreter, with PINECONE_CONTROLLER_HOST and PINECONE_API_KEY set: `python app.py INDEX`.
Prints one line for each check that holds; an exception is a failure.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import pinecone
from pinecone import Pinecone, ServerlessSpec

VERSION = int(pinecone.__version__.split(".")[0])
DIM = 64
NAME = sys.argv[1]
RANDOM = random.Random(0)
VECTORS = [[RANDOM.uniform(-1, 1) for _ in range(DIM)] for _ in range(30)]


def check(name: str, holds: Any) -> None:
    if not holds:
        raise AssertionError(name)
    print(f"ok {name}", flush=True)


def raised(call: Any) -> str:
    """The type and text of what a call raises."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def pages(found: Any) -> list[str]:
    """The ids of `list`, whose pages are lists of ids, or of objects with one."""
    items = [item for page in found for item in getattr(page, "vectors", page)]
    return [item if isinstance(item, str) else item["id"] for item in items]


def control_plane(client: Any) -> None:
    spec = ServerlessSpec(cloud="aws", region="us-east-1")
    client.create_index(NAME, dimension=DIM, metric="cosine", spec=spec)
    check("list", NAME in [index.name for index in client.list_indexes()])
    check("has", client.has_index(NAME) and not client.has_index("absent"))
    described = client.describe_index(NAME)
    check("describe", described.name == NAME and described.host.endswith(f"/i/{NAME}"))
    text = raised(lambda: client.create_index(NAME, dimension=DIM, metric="cosine", spec=spec))
    check("again", "exists already" in text)
    client.configure_index(NAME, deletion_protection="enabled")
    check("protected", "deletion protection" in raised(lambda: client.delete_index(NAME)))
    client.configure_index(NAME, deletion_protection="disabled")
    if VERSION >= 6:
        client.configure_index(NAME, tags={"team": "b"})
        check("tags", client.describe_index(NAME).to_dict()["tags"] == {"team": "b"})


def writes(index: Any) -> None:
    rows = [
        {
            "id": f"doc#{n:02}",
            "values": VECTORS[n],
            "metadata": {"year": 2000 + n, "odd": n % 2 == 1, "tags": ["t"]},
        }
        for n in range(20)
    ]
    check("upsert dicts", index.upsert(vectors=rows[:10]).upserted_count == 10)
    check(
        "upsert batches",
        index.upsert(vectors=rows[10:], batch_size=4, show_progress=False).upserted_count == 10,
    )
    tuples = [(f"x/{n} é" if VERSION < 9 else f"x/{n} e", VECTORS[n], {"year": n}) for n in range(20, 25)]
    check("upsert tuples", index.upsert(vectors=tuples, namespace="ns/1 a").upserted_count == 5)
    stats = index.describe_index_stats()
    counts = {name: value.vector_count for name, value in stats.namespaces.items()}
    check("stats", (stats.total_vector_count, counts) == (25, {"__default__": 20, "ns/1 a": 5}))


def reads(index: Any) -> None:
    answer = index.query(vector=VECTORS[3], top_k=3, include_metadata=True, include_values=True)
    best = answer.matches[0]
    check("query", best.id == "doc#03" and abs(best.score - 1) < 1e-3 and best.metadata["year"] == 2003)
    check("values", max(abs(a - b) for a, b in zip(best.values, VECTORS[3])) < 1e-2)  # noqa: B905
    answer = index.query(vector=VECTORS[3], top_k=30, filter={"year": {"$gte": 2010}, "odd": {"$ne": True}})
    check("filter", sorted(match.id for match in answer.matches) == [f"doc#{n:02}" for n in range(10, 20, 2)])
    check("query by id", index.query(id="doc#05", top_k=1).matches[0].id == "doc#05")
    check("query namespace", len(index.query(vector=VECTORS[0], top_k=9, namespace="ns/1 a").matches) == 5)
    fetched = index.fetch(ids=["doc#01", "absent"]).vectors
    check("fetch", list(fetched) == ["doc#01"] and fetched["doc#01"].metadata["year"] == 2001)
    check("list", pages(index.list(prefix="doc#1")) == [f"doc#{n}" for n in range(10, 20)])
    first = index.list_paginated(prefix="doc#", limit=7)
    check("page", len(first.vectors) == 7 and first.pagination.next)
    second = index.list_paginated(prefix="doc#", limit=7, pagination_token=first.pagination.next)
    check("next page", second.vectors[0].id == "doc#07")


def changes(index: Any) -> None:
    index.update(id="doc#01", set_metadata={"year": 1990})
    index.update(id="doc#02", values=VECTORS[29])
    check("update", index.fetch(ids=["doc#01"]).vectors["doc#01"].metadata["year"] == 1990)
    check("update values", index.query(vector=VECTORS[29], top_k=1).matches[0].id == "doc#02")
    if VERSION >= 8:
        index.update(filter={"year": {"$gte": 2015}}, set_metadata={"late": True}, namespace="__default__")
        found = index.fetch_by_metadata(filter={"late": True}, namespace="__default__", limit=3)
        check("by metadata", len(found.vectors) == 3 and found.pagination.next)
    if VERSION >= 7:
        names = [each.name for page in [index.list_namespaces_paginated()] for each in page.namespaces]
        check("namespaces", names == ["__default__", "ns/1 a"])
        check("namespace", int(index.describe_namespace(namespace="ns/1 a").record_count) == 5)
    index.delete(ids=["doc#00", "absent"])
    index.delete(filter={"year": {"$eq": 1990}})
    check("delete", index.describe_index_stats().namespaces["__default__"].vector_count == 18)
    index.delete(delete_all=True, namespace="ns/1 a")
    check("delete all", index.describe_index_stats().total_vector_count == 18)


def refusals(client: Any, index: Any) -> None:
    text = raised(lambda: index.query(vector=[1.0] * 3, top_k=1))
    check("wrong length", "the index has dimension 64" in text)
    text = raised(lambda: index.upsert(vectors=[{"id": "z", "values": [0.0] * DIM}]))
    check("zero vector", VERSION >= 9 or "zero" in text)
    text = raised(lambda: index.query(vector=VECTORS[0], top_k=1, filter={"a": {"$regex": "x"}}))
    check("wrong filter", "$regex" in text)
    text = raised(lambda: client.describe_index("absent"))
    check("absent", "NotFound" in text)
    text = raised(
        lambda: index.query(vector=VECTORS[0], top_k=1, sparse_vector={"indices": [1], "values": [0.5]})
    )
    check("sparse", "sparse" in text)
    wrong = Pinecone(api_key="mrl_00000000_wrong")
    check("wrong key", "Unauthorized" in raised(lambda: list(wrong.list_indexes())))


def texts(client: Any) -> None:
    name, field = f"{NAME}-texts", {"text": "chunk_text"}
    client.create_index_for_model(
        name, cloud="aws", region="us-east-1", embed={"model": "multilingual-e5-large", "field_map": field}
    )
    index = client.Index(name)
    records = [
        {"_id": "a", "chunk_text": "the moon causes the tides", "year": 2017},
        {"_id": "b", "chunk_text": "honey is made by bees", "year": 2018},
    ]
    index.upsert_records(namespace="ns1", records=records)
    found = index.search(
        namespace="ns1", query={"inputs": {"text": "who makes honey"}, "top_k": 1}, fields=["year"]
    )
    hit = found.result.hits[0]
    found_id = hit["_id"] if VERSION < 9 else hit.id
    check("search by text", (found_id, dict(hit["fields"])) == ("b", {"year": 2018}))
    client.delete_index(name)


def main() -> None:
    client = Pinecone()
    control_plane(client)
    index = client.Index(NAME)
    writes(index)
    reads(index)
    changes(index)
    refusals(client, index)
    if VERSION >= 6:
        texts(client)
    client.delete_index(NAME)
    check("deleted", not client.has_index(NAME))
    print(json.dumps({"version": pinecone.__version__}))


main()
