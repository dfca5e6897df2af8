"""An app on Qdrant's client 1.9, whose calls newer versions have no more; nothing in it knows of mrlstore.

Run by the client's interpreter: `python qdrant9_app.py URL COLLECTION`, with the key in QDRANT_API_KEY. It
prints a line for each check that holds; an exception is a failure.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from qdrant_client import QdrantClient, models

URL, NAME = sys.argv[1:]
ROWS = [[1.0, 2.0, 3.0, n + 1.0] for n in range(9)]
ODD: Any = models.Filter(must=[models.FieldCondition(key="kind", match=models.MatchValue(value="odd"))])


def check(name: str, holds: Any) -> None:
    if not holds:
        raise AssertionError(name)
    print(f"ok {name}", flush=True)


def ids(points: Any) -> list[Any]:
    return [point.id for point in points]


def main() -> None:
    warnings.simplefilter("ignore")
    client: Any = QdrantClient(url=URL, prefix="qdrant", api_key=os.environ.get("QDRANT_API_KEY"))
    params = models.VectorParams(size=4, distance=models.Distance.COSINE)
    check("recreate", client.recreate_collection(NAME, vectors_config=params))
    points = [
        models.PointStruct(id=n, vector=row, payload={"n": n, "kind": "odd" if n % 2 else "even"})
        for n, row in enumerate(ROWS)
    ]
    check("upsert", client.upsert(NAME, points).status == models.UpdateStatus.COMPLETED)
    info = client.get_collection(NAME)
    check("info", info.points_count == 9 and info.config.params.vectors.size == 4)
    check("list", NAME in [each.name for each in client.get_collections().collections])
    found = client.search(NAME, query_vector=ROWS[3], query_filter=ODD, limit=3, with_payload=True)
    check("search", ids(found) == [3, 5, 7] and found[0].payload == {"n": 3, "kind": "odd"})
    check("score", abs(found[0].score - 1) < 1e-3)
    requests = [models.SearchRequest(vector=ROWS[n], limit=1) for n in (2, 4)]
    check("search batch", [ids(answer) for answer in client.search_batch(NAME, requests)] == [[2], [4]])
    check("recommend", 1 not in ids(client.recommend(NAME, positive=[1], negative=[8], limit=3)))
    client.set_payload(NAME, {"new": True}, points=[1])
    (row,) = client.retrieve(NAME, [1], with_vectors=True)
    check("retrieve", row.payload == {"n": 1, "kind": "odd", "new": True} and len(row.vector) == 4)
    page, following = client.scroll(NAME, limit=4)
    check("scroll", ids(page) == [0, 1, 2, 3] and following == 4)
    check("count", client.count(NAME, count_filter=ODD).count == 4)
    client.delete(NAME, points_selector=models.PointIdsList(points=[1]))
    check("delete", client.count(NAME).count == 8)
    client.delete(NAME, points_selector=models.FilterSelector(filter=ODD))
    check("delete by filter", client.count(NAME).count == 5)
    check("delete collection", client.delete_collection(NAME))


main()
