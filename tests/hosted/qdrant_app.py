"""An app on the client of Qdrant, unmodified; nothing in it knows of mrlstore.

Run by the client's interpreter: `python qdrant_app.py URL COLLECTION`, with the key in QDRANT_API_KEY. Most
checks make the same call on the server and on the client's own local mode, and compare the answers. Prints a
line for each check that holds; an exception is a failure.
"""

from __future__ import annotations

import os
import random
import sys
import uuid
import warnings
from collections.abc import Callable
from typing import Any

from qdrant_client import QdrantClient, models

URL, NAME = sys.argv[1:]
DIM = 64
RANDOM = random.Random(0)
VECTORS = [[RANDOM.uniform(-1, 1) for _ in range(DIM)] for _ in range(40)]
UUIDS = [str(uuid.UUID(int=RANDOM.getrandbits(128), version=4)) for _ in range(4)]
IDS: list[int | str] = [*range(8), 2**63 + 1, *UUIDS, *range(100, 117)]


def payload(n: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "year": 2000 + n,
        "genre": "abc"[n % 3],
        "tags": ["x", "y", "z"][: n % 4],
        "visits": [n % 10, 20 - n % 10],
        "author": {"name": f"name {n % 5}", "age": 20 + n},
        "price": n / 4,
        "when": f"2024-01-{1 + n % 28:02}T10:00:00Z",
    }
    if n % 2:
        made["draft"] = n % 4 == 1
    if n % 7 == 0:
        made["note"] = None
    return made


def near(one: Any, other: Any) -> bool:
    """Whether two answers are equal but for rounding to 16 bits a number."""
    if isinstance(one, float) or isinstance(other, float):
        return one is not None and other is not None and abs(one - other) < 2e-3
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(near, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(near(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other)


def plain(answer: Any) -> Any:
    """The fields of an answer that both have to give."""
    if hasattr(answer, "points"):
        return plain(answer.points)
    if isinstance(answer, models.ScoredPoint):
        return (answer.id, answer.score, answer.payload, answer.vector)
    if isinstance(answer, models.Record):
        return (answer.id, answer.payload, answer.vector)
    if isinstance(answer, models.GroupsResult):
        return [(group.id, plain(group.hits)) for group in answer.groups]
    if isinstance(answer, models.UpdateResult):
        return answer.status.value
    if isinstance(answer, models.CountResult):
        return answer.count
    if isinstance(answer, models.FacetResponse):
        return sorted((str(hit.value), hit.count) for hit in answer.hits)
    if isinstance(answer, list | tuple):
        return [plain(each) for each in answer]
    return answer


class Both:
    """The server's client and a local one."""

    def __init__(self) -> None:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            self.served = QdrantClient(url=URL, api_key=os.environ.get("QDRANT_API_KEY"), timeout=60)
        self.check("versions fit", not [each for each in warned if "version" in str(each.message)])
        self.local = QdrantClient(":memory:")

    def same(self, name: str, call: Callable[[QdrantClient], Any], sort: bool = False) -> Any:
        served, local = plain(call(self.served)), plain(call(self.local))
        if sort:
            served, local = sorted(served, key=str), sorted(local, key=str)
        if not near(served, local):
            raise AssertionError(f"{name}:\nserved {served}\nlocal  {local}")
        print(f"ok {name}", flush=True)
        return served

    def check(self, name: str, holds: Any) -> None:
        if not holds:
            raise AssertionError(name)
        print(f"ok {name}", flush=True)


def refused(call: Callable[[], Any], *words: str) -> bool:
    try:
        call()
    except Exception as error:
        return all(word in str(error) for word in words)
    return False


def filters() -> dict[str, models.Filter]:
    field, match, span = models.FieldCondition, models.MatchValue, models.Range

    def must(*conditions: Any) -> models.Filter:
        return models.Filter(must=list(conditions))

    any_of, all_but = models.MatchAny, models.MatchExcept
    return {
        "value": must(field(key="genre", match=match(value="a"))),
        "bool": must(field(key="draft", match=match(value=True))),
        "any": must(field(key="year", match=any_of(any=[2001, 2002, 2050]))),
        "except": must(field(key="genre", match=all_but(**{"except": ["a", "b"]}))),
        "except in a list": must(field(key="tags", match=all_but(**{"except": ["x"]}))),
        "except of a missing key": must(field(key="absent", match=all_but(**{"except": ["x"]}))),
        "member": must(field(key="tags", match=match(value="y"))),
        "range": must(field(key="price", range=span(gte=1, lt=4.25))),
        "range in a list": must(field(key="visits", range=span(gt=3, lt=7))),
        "nested": must(field(key="author.age", range=span(gt=30))),
        "nested value": must(field(key="author.name", match=match(value="name 2"))),
        "must_not": models.Filter(must_not=[field(key="draft", match=match(value=True))]),
        "should": models.Filter(
            should=[field(key="genre", match=match(value="a")), field(key="year", match=match(value=2001))]
        ),
        "all": models.Filter(
            must=[field(key="genre", match=match(value="a"))],
            should=[
                field(key="tags", match=match(value="z")),
                field(key="year", range=span(lt=2010)),
            ],
            must_not=[field(key="draft", match=match(value=False))],
        ),
        "min_should": models.Filter(
            min_should=models.MinShould(
                conditions=[
                    field(key="genre", match=match(value="a")),
                    field(key="tags", match=match(value="x")),
                    field(key="year", range=span(gte=2010)),
                ],
                min_count=2,
            )
        ),
        "inner": must(
            models.Filter(
                should=[
                    field(key="year", match=match(value=2003)),
                    field(key="draft", match=match(value=False)),
                ]
            )
        ),
        "is_empty": must(models.IsEmptyCondition(is_empty=models.PayloadField(key="tags"))),
        "is_empty of a missing key": must(models.IsEmptyCondition(is_empty=models.PayloadField(key="draft"))),
        "is_null": must(models.IsNullCondition(is_null=models.PayloadField(key="note"))),
        "times": must(
            field(
                key="when",
                range=models.DatetimeRange(gt="2024-01-03T10:00:00Z", lte="2024-01-09T11:00:00+01:00"),
            )
        ),
        "has_id": must(models.HasIdCondition(has_id=[1, 2, UUIDS[0], 999])),
        "without ids": models.Filter(must_not=[models.HasIdCondition(has_id=[1, 2, UUIDS[0]])]),
        "has_id and more": must(
            models.HasIdCondition(has_id=list(range(8))), field(key="genre", match=match(value="a"))
        ),
    }


def collections(both: Both) -> None:
    both.same("absent", lambda client: client.collection_exists(NAME))
    params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    both.same("create", lambda client: client.create_collection(NAME, vectors_config=params))
    both.same("exists", lambda client: client.collection_exists(NAME))
    both.check("list", NAME in [each.name for each in both.served.get_collections().collections])
    both.check("again", refused(lambda: both.served.create_collection(NAME, vectors_config=params), "exists"))
    both.same("index genre", lambda client: client.create_payload_index(NAME, "genre", "keyword"))
    both.same("index year", lambda client: client.create_payload_index(NAME, "year", "integer"))
    info = both.served.get_collection(NAME)
    both.check("indexes", info.payload_schema["genre"].data_type == models.PayloadSchemaType.KEYWORD)
    vectors = info.config.params.vectors
    both.check("info", (vectors.size, vectors.distance, info.status.value) == (DIM, "Cosine", "green"))


def writes(both: Both) -> None:
    points = [models.PointStruct(id=IDS[n], vector=VECTORS[n], payload=payload(n)) for n in range(10)]
    both.same("upsert", lambda client: client.upsert(NAME, points))
    batch = models.Batch(ids=IDS[10:20], vectors=VECTORS[10:20], payloads=[payload(n) for n in range(10, 20)])
    both.same("upsert batch", lambda client: client.upsert(NAME, batch))
    more = [models.PointStruct(id=IDS[n], vector=VECTORS[n], payload=payload(n)) for n in range(20, 30)]
    both.same("upload points", lambda client: client.upload_points(NAME, more, batch_size=4, wait=True))
    both.same("count", lambda client: client.count(NAME))
    both.check("points_count", both.served.get_collection(NAME).points_count == 30)


def reads(both: Both) -> None:
    both.same("retrieve", lambda c: c.retrieve(NAME, [3, UUIDS[1], 2**63 + 1], with_vectors=True))
    both.same("retrieve absent", lambda c: c.retrieve(NAME, [999_999], with_payload=False))
    both.same("some fields", lambda c: c.retrieve(NAME, [3, 5], with_payload=["year", "author.name"]))
    leave = models.PayloadSelectorExclude(exclude=["tags", "author.age"])
    both.same("other fields", lambda c: c.retrieve(NAME, [3, 5], with_payload=leave))

    def pages(client: QdrantClient) -> list[Any]:
        found, offset = [], None
        while True:
            page, offset = client.scroll(NAME, limit=7, offset=offset, with_vectors=False)
            found += page
            if offset is None:
                return found

    both.same("scroll", pages)
    for name, chosen in filters().items():
        filtered(both, name, chosen)
    newest = models.OrderBy(key="year", direction=models.Direction.DESC)
    both.same("scroll by year", lambda c: c.scroll(NAME, order_by=newest, limit=5)[0])
    both.same("facet", lambda c: c.facet(NAME, "genre"))


def filtered(both: Both, name: str, chosen: models.Filter) -> None:
    both.same(f"count by {name}", lambda c: c.count(NAME, count_filter=chosen, exact=True))
    both.same(f"scroll by {name}", lambda c: c.scroll(NAME, chosen, limit=50)[0])
    both.same(f"query by {name}", lambda c: c.query_points(NAME, VECTORS[30], query_filter=chosen, limit=6))


def queries(both: Both) -> None:
    both.same("query", lambda c: c.query_points(NAME, VECTORS[31], limit=5, with_vectors=True))
    both.same("by id", lambda c: c.query_points(NAME, 5, limit=5))
    both.same("by uuid", lambda c: c.query_points(NAME, UUIDS[2], limit=5))
    both.same("offset", lambda c: c.query_points(NAME, VECTORS[32], limit=3, offset=4))
    both.same("threshold", lambda c: c.query_points(NAME, VECTORS[3], limit=9, score_threshold=0.15))
    exact = models.SearchParams(exact=True)
    both.same("exact", lambda c: c.query_points(NAME, VECTORS[33], limit=9, search_params=exact))
    walk = models.SearchParams(hnsw_ef=64)
    both.same("hnsw_ef", lambda c: c.query_points(NAME, VECTORS[33], limit=9, search_params=walk))
    requests = [
        models.QueryRequest(query=VECTORS[34], limit=3, with_payload=True),
        models.QueryRequest(query=5, limit=2),
    ]
    both.same("batch", lambda c: c.query_batch_points(NAME, requests))
    both.same(
        "groups", lambda c: c.query_points_groups(NAME, "genre", query=VECTORS[35], limit=2, group_size=3)
    )
    diverse = models.NearestQuery(nearest=VECTORS[36], mmr=models.Mmr(diversity=0.5, candidates_limit=20))
    both.same(
        "mmr", lambda c: [point.id for point in c.query_points(NAME, diverse, limit=5).points], sort=True
    )
    liked = models.RecommendQuery(
        recommend=models.RecommendInput(
            positive=[1, 2], negative=[3], strategy=models.RecommendStrategy.AVERAGE_VECTOR
        )
    )
    both.same("recommend", lambda c: [point.id for point in c.query_points(NAME, liked, limit=3).points])


def changes(both: Both) -> None:
    def rows(client: QdrantClient) -> Any:
        return client.scroll(NAME, limit=100)[0]

    def field(value: str) -> models.Filter:
        return models.Filter(must=[models.FieldCondition(key="genre", match=models.MatchValue(value=value))])

    def after(name: str, call: Callable[[QdrantClient], Any]) -> None:
        both.same(name, call)
        both.same(f"after {name}", rows, sort=True)

    after("set payload", lambda c: c.set_payload(NAME, {"year": 1990, "new": [1]}, points=[1, UUIDS[0]]))
    after("set payload by filter", lambda c: c.set_payload(NAME, {"late": True}, points=field("b")))
    after("overwrite payload", lambda c: c.overwrite_payload(NAME, {"only": {"a": 1}}, points=[2]))
    after("delete payload", lambda c: c.delete_payload(NAME, ["year", "late"], points=[1, 4]))
    after("clear payload", lambda c: c.clear_payload(NAME, points_selector=[6]))
    moved = [models.PointVectors(id=7, vector=VECTORS[38])]
    after("update vectors", lambda c: c.update_vectors(NAME, moved))
    both.same("moved", lambda c: c.query_points(NAME, VECTORS[38], limit=1))
    steps = [
        models.UpsertOperation(
            upsert=models.PointsList(points=[models.PointStruct(id=500, vector=VECTORS[39], payload={})])
        ),
        models.SetPayloadOperation(set_payload=models.SetPayload(payload={"a": 1}, points=[500])),
        models.DeleteOperation(delete=models.PointIdsList(points=[3])),
    ]
    after("batch update", lambda c: c.batch_update_points(NAME, steps))
    after("delete", lambda c: c.delete(NAME, points_selector=[0, UUIDS[1], 999_999]))
    after(
        "delete by filter", lambda c: c.delete(NAME, points_selector=models.FilterSelector(filter=field("c")))
    )
    both.same("count after", lambda c: c.count(NAME))


def named(both: Both) -> None:
    """A short and a long Matryoshka embedding of each point: the short one chooses, the long one ranks."""
    name, short = f"{NAME}-named", 16
    config = {
        "full": models.VectorParams(size=DIM, distance=models.Distance.COSINE),
        "small": models.VectorParams(size=short, distance=models.Distance.COSINE),
    }
    both.same("create named", lambda client: client.create_collection(name, vectors_config=config))
    points = [
        models.PointStruct(id=n, vector={"full": VECTORS[n], "small": VECTORS[n][:short]}, payload={"n": n})
        for n in range(30)
    ]
    both.same("upsert named", lambda client: client.upsert(name, points))
    both.same("retrieve named", lambda client: client.retrieve(name, [3], with_vectors=True))
    both.same("retrieve small", lambda client: client.retrieve(name, [3], with_vectors=["small"]))
    both.same("query small", lambda c: c.query_points(name, VECTORS[31][:short], using="small", limit=5))
    both.same("query full", lambda c: c.query_points(name, VECTORS[31], using="full", limit=5))
    for limit in (4, 12, 30):
        staged(both, name, models.Prefetch(query=VECTORS[32][:short], using="small", limit=limit))
    wrong = [models.PointStruct(id=1, vector={"full": VECTORS[1], "small": VECTORS[2][:short]})]
    both.check("no part", refused(lambda: both.served.upsert(name, wrong), "leading part"))
    both.same("delete named", lambda client: client.delete_collection(name))


def staged(both: Both, name: str, stage: models.Prefetch) -> None:
    both.same(
        f"prefetch {stage.limit}",
        lambda client: client.query_points(name, VECTORS[32], using="full", prefetch=stage, limit=4),
    )


def aliases(both: Both) -> None:
    def change(*actions: Any) -> Callable[[QdrantClient], Any]:
        return lambda client: client.update_collection_aliases(list(actions))

    made = models.CreateAlias(collection_name=NAME, alias_name="current")
    both.same("alias", change(models.CreateAliasOperation(create_alias=made)))
    both.same("count by alias", lambda client: client.count("current"))
    both.same("query by alias", lambda client: client.query_points("current", VECTORS[30], limit=3))
    renamed = models.RenameAlias(old_alias_name="current", new_alias_name="live")
    both.same("rename alias", change(models.RenameAliasOperation(rename_alias=renamed)))
    listed = both.served.get_collection_aliases(NAME).aliases
    both.check("aliases", [each.alias_name for each in listed] == ["live"])
    gone = models.DeleteAlias(alias_name="live")
    both.same("delete alias", change(models.DeleteAliasOperation(delete_alias=gone)))


def refusals(both: Both) -> None:
    client = both.served
    text = models.FieldCondition(key="genre", match=models.MatchText(text="a"))
    both.check("full text", refused(lambda: client.count(NAME, models.Filter(must=[text])), "text", "400"))
    fusion = models.FusionQuery(fusion=models.Fusion.RRF)
    stages = [models.Prefetch(query=VECTORS[0], limit=3), models.Prefetch(query=VECTORS[1], limit=3)]
    both.check(
        "fusion", refused(lambda: client.query_points(NAME, fusion, prefetch=stages), "not offered", "400")
    )
    sparse = {"text": models.SparseVectorParams()}
    both.check(
        "sparse",
        refused(lambda: client.create_collection("x", sparse_vectors_config=sparse), "sparse", "400"),
    )
    both.check("dimension", refused(lambda: client.query_points(NAME, [1.0, 2.0]), "expected dim: 64, got 2"))
    both.check("no collection", refused(lambda: client.count("absent"), "404"))
    both.check("absent id", refused(lambda: client.query_points(NAME, 999_999), "404"))
    wrong = QdrantClient(url=URL, api_key="mrl_00000000_wrong", check_compatibility=False)
    both.check("wrong key", refused(wrong.get_collections, "401"))


def main() -> None:
    both = Both()
    collections(both)
    writes(both)
    reads(both)
    queries(both)
    changes(both)
    named(both)
    aliases(both)
    refusals(both)
    both.same("delete collection", lambda client: client.delete_collection(NAME))
    both.check("deleted", not both.served.collection_exists(NAME))


main()
