"""Qdrant's order of points, which is that of their ids, and ranges over payloads that hold lists."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from mrlstore.server import ServerConfig, create_app

ONE = "/qdrant/collections/papers"
NUMBERS = [0, 1, 2, 9, 10, 11, 99, 100, 2**63 - 1, 2**63, 2**64 - 1]
UUIDS = [str(UUID(int=n << 100)) for n in (1, 2, 300, 4_000_000)]
ORDER: list[int | str] = [*NUMBERS, *UUIDS]


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    config = ServerConfig(tmp_path_factory.mktemp("order") / "stores")
    with TestClient(create_app(config), base_url="http://localhost:5080") as client:
        client.put(ONE, json={"vectors": {"size": 2, "distance": "Cosine"}})
        ids = random.Random(1).sample(ORDER, len(ORDER))
        points = [
            {"id": id, "vector": [1.0, 2.0], "payload": {"even": ORDER.index(id) % 2 == 0}} for id in ids
        ]
        assert client.put(f"{ONE}/points", json={"points": points}).status_code == 200
        yield client


def scrolled(client: TestClient, limit: int, **more: Any) -> list[int | str]:
    """The ids of all pages."""
    found: list[int | str] = []
    offset: int | str | None = None
    while True:
        body = {"limit": limit, "offset": offset, "with_payload": False, **more}
        page = client.post(f"{ONE}/points/scroll", json=body).json()["result"]
        found += [point["id"] for point in page["points"]]
        offset = page["next_page_offset"]
        if offset is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 3, len(NUMBERS), len(ORDER), 100])
def test_pages_are_in_the_order_of_ids(ordered: TestClient, limit: int) -> None:
    assert scrolled(ordered, limit) == ORDER
    even = {"must": [{"key": "even", "match": {"value": True}}]}
    assert scrolled(ordered, limit, filter=even) == ORDER[::2]
    nothing = {"must": [{"key": "even", "match": {"value": 5}}]}
    assert scrolled(ordered, limit, filter=nothing) == []
    left_out = {"must_not": [{"has_id": [1, UUIDS[0]]}]}
    assert scrolled(ordered, limit, filter=left_out) == [id for id in ORDER if id not in (1, UUIDS[0])]
    some = {"must": [{"has_id": [UUIDS[1], 10, 9, 12]}]}
    assert scrolled(ordered, limit, filter=some) == [9, 10, UUIDS[1]]


@pytest.mark.parametrize("offset", [3, 12, 2**64 - 1, str(UUID(int=2)), UUIDS[2]])
def test_a_page_begins_at_its_offset_or_behind_it(ordered: TestClient, offset: int | str) -> None:
    def place(id: int | str) -> tuple[bool, int, str]:
        return (False, id, "") if isinstance(id, int) else (True, 0, id)

    body = {"limit": 100, "offset": offset}
    found = ordered.post(f"{ONE}/points/scroll", json=body).json()["result"]["points"]
    assert [point["id"] for point in found] == [id for id in ORDER if place(id) >= place(offset)]


def test_a_query_without_a_question_is_in_the_same_order(ordered: TestClient) -> None:
    found = ordered.post(f"{ONE}/points/query", json={"limit": 5}).json()["result"]["points"]
    assert [point["id"] for point in found] == ORDER[:5]
    some = {"limit": 5, "filter": {"must": [{"has_id": [UUIDS[0], 10, 9]}]}}
    found = ordered.post(f"{ONE}/points/query", json=some).json()["result"]["points"]
    assert [point["id"] for point in found] == [9, 10, UUIDS[0]]


def test_what_is_written_and_removed_between_pages_has_its_place(ordered: TestClient) -> None:
    first = ordered.post(f"{ONE}/points/scroll", json={"limit": 4}).json()["result"]
    assert first["next_page_offset"] == 10
    ordered.put(f"{ONE}/points", json={"points": [{"id": 50, "vector": [1.0, 1.0]}]})
    ordered.post(f"{ONE}/points/delete", json={"points": [10]})
    second = ordered.post(f"{ONE}/points/scroll", json={"limit": 3, "offset": 10}).json()["result"]
    assert [point["id"] for point in second["points"]] == [11, 50, 99]
    ordered.post(f"{ONE}/points/delete", json={"points": [50]})
    ordered.put(
        f"{ONE}/points", json={"points": [{"id": 10, "vector": [1.0, 1.0], "payload": {"even": True}}]}
    )


def test_ranges_look_into_lists(ordered: TestClient) -> None:
    payloads: list[dict[str, Any]] = [{"n": 5}, {"n": [1, 9]}, {"n": [1, 5]}, {"n": ["5"]}, {"n": []}, {}]
    ids = [1_000 + at for at in range(len(payloads))]
    points = [{"id": id, "vector": [1.0, 2.0], "payload": one} for id, one in zip(ids, payloads, strict=True)]
    ordered.put(f"{ONE}/points", json={"points": points})

    def found(condition: dict[str, Any], group: str = "must") -> list[int]:
        chosen = {group: [{"key": "n", "range": condition}], "min_should": None}
        body = {"filter": chosen, "limit": 100, "offset": 1_000, "with_payload": False}
        rows = ordered.post(f"{ONE}/points/scroll", json=body).json()["result"]["points"]
        return [point["id"] - 1_000 for point in rows if point["id"] in ids]

    try:
        assert found({"gt": 3, "lt": 7}) == [0, 2]  # one member meets both bounds
        assert found({"gte": 9}) == [1] and found({"lte": 1}) == [1, 2] and found({}) == [0, 1, 2]
        assert found({"gt": 3, "lt": 7}, "must_not") == [1, 3, 4, 5]
    finally:
        ordered.post(f"{ONE}/points/delete", json={"points": ids})
