"""Keys: roles, limits to indexes and namespaces, changes while the server runs, the file on disk."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from mrlstore import InvalidInput
from mrlstore.cli.app import app as program
from mrlstore.server import ServerConfig, create_app
from mrlstore.server.api_keys import KeyFile, Role, add_key, read_keys, revoke_key

UPSERT = {"vectors": [{"id": "a", "values": [1, 2, 3, 4]}]}
QUERY = {"topK": 1, "vector": [1, 2, 3, 4]}

As = Callable[[str], dict[str, str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def guarded(tmp_path: Path, file: Path) -> Iterator[TestClient]:
    key, _ = add_key(file, "admin")
    config = ServerConfig(tmp_path / "stores", api_keys=file)
    with TestClient(create_app(config), base_url="http://localhost:5080") as client:
        for name in ("papers", "notes"):
            client.post("/indexes", json={"name": name, "dimension": 4}, headers={"Api-Key": key})
        yield client


def sent(key: str) -> dict[str, str]:
    return {"Api-Key": key}


def test_nobody_gets_in_without_a_key_but_to_the_health_checks(guarded: TestClient) -> None:
    for headers in ({}, sent("mrl_00000000_wrong"), {"Authorization": "Bearer x"}, sent("")):
        for path in ("/indexes", "/metrics", "/i/papers/describe_index_stats", "/anything"):
            answer = guarded.get(path, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED")
    assert guarded.get("/health").status_code == guarded.get("/ready").status_code == 200


def test_each_role_may_do_what_it_says_and_no_more(guarded: TestClient, file: Path) -> None:
    new = {"name": "new", "dimension": 4}
    calls: list[tuple[Role, str, str, Any, int]] = [
        (Role.READ, "GET", "/indexes", None, 200),
        (Role.READ, "POST", "/i/papers/query", QUERY, 200),
        (Role.READ, "GET", "/metrics", None, 200),
        (Role.WRITE, "POST", "/i/papers/vectors/upsert", UPSERT, 200),
        (Role.WRITE, "POST", "/i/papers/vectors/update", {"id": "a", "setMetadata": {"x": 1}}, 200),
        (Role.WRITE, "POST", "/i/papers/vectors/delete", {"deleteAll": True}, 200),
        (Role.WRITE, "DELETE", "/i/papers/namespaces/a", None, 200),
        (Role.ADMIN, "POST", "/indexes", new, 201),
        (Role.ADMIN, "PATCH", "/indexes/papers", {"tags": {"a": "b"}}, 200),
        (Role.ADMIN, "DELETE", "/indexes/new", None, 202),
    ]
    for role in Role:
        key, _ = add_key(file, role.name.lower())
        for needed, method, path, body, status in calls:
            answer = guarded.request(method, path, json=body, headers=sent(key))
            assert answer.status_code == (status if role >= needed else 403), (role, path, answer.text)


def test_a_key_opens_only_its_indexes_and_namespaces(guarded: TestClient, file: Path) -> None:
    admin, _ = add_key(file, "admin")
    for namespace in ("", "a", "b"):
        guarded.post("/i/papers/vectors/upsert", json={**UPSERT, "namespace": namespace}, headers=sent(admin))
    key, _ = add_key(file, "write", indexes=["papers"], namespaces=["a"])
    listed = guarded.get("/indexes", headers=sent(key)).json()["indexes"]
    assert [index["name"] for index in listed] == ["papers"]
    refused: list[tuple[str, str, Any]] = [
        ("POST", "/i/notes/query", QUERY),
        ("GET", "/indexes/notes", None),
        ("GET", "/metrics", None),
        ("POST", "/i/papers/query", QUERY),
        ("POST", "/i/papers/query", {**QUERY, "namespace": "b"}),
        ("POST", "/i/papers/query", {**QUERY, "namespace": "__default__"}),
        ("POST", "/i/papers/vectors/upsert", UPSERT),
        ("POST", "/i/papers/vectors/delete", {"deleteAll": True, "namespace": "b"}),
        ("POST", "/i/papers/vectors/update", {"id": "a", "setMetadata": {"x": 1}}),
        ("POST", "/i/papers/vectors/fetch_by_metadata", {"filter": {"x": 1}}),
        ("GET", "/i/papers/vectors/fetch?ids=a", None),
        ("GET", "/i/papers/vectors/list?namespace=b", None),
        ("GET", "/i/papers/namespaces/b", None),
        ("DELETE", "/i/papers/namespaces/b", None),
        ("POST", "/i/papers/namespaces", {"name": "c"}),
    ]
    for method, path, body in refused:
        answer = guarded.request(method, path, json=body, headers=sent(key))
        assert answer.status_code == 403, (path, answer.text)
    assert (
        guarded.post("/i/papers/query", json={**QUERY, "namespace": "a"}, headers=sent(key)).status_code
        == 200
    )
    stats = guarded.post("/i/papers/describe_index_stats", json={}, headers=sent(key)).json()
    assert (stats["namespaces"], stats["totalVectorCount"]) == ({"a": {"vectorCount": 1}}, 1)
    names = guarded.get("/i/papers/namespaces", headers=sent(key)).json()
    assert [each["name"] for each in names["namespaces"]] == ["a"]


def test_keys_come_and_go_while_the_server_runs(guarded: TestClient, file: Path) -> None:
    key, entry = add_key(file, "read")
    assert guarded.get("/indexes", headers=sent(key)).status_code == 200
    assert guarded.get("/indexes", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    revoke_key(file, entry.id)
    assert guarded.get("/indexes", headers=sent(key)).status_code == 401


@pytest.mark.parametrize("damage", ["", "{", '{"keys": [1]}', '{"keys": [{"id": "x"}]}', None])
def test_a_damaged_file_lets_nobody_in(guarded: TestClient, file: Path, damage: str | None) -> None:
    key, _ = add_key(file, "admin")
    assert guarded.get("/indexes", headers=sent(key)).status_code == 200
    whole = file.read_text()
    if damage is None:
        file.unlink()
    else:
        file.write_text(damage)
    assert guarded.get("/indexes", headers=sent(key)).status_code == 401
    file.write_text(whole)
    assert guarded.get("/indexes", headers=sent(key)).status_code == 200


def test_a_file_that_is_none_of_keys_is_refused_at_the_start(file: Path, tmp_path: Path) -> None:
    file.write_text("[]")
    with pytest.raises(InvalidInput, match="not a file of keys"):
        create_app(ServerConfig(tmp_path / "stores", api_keys=file))


def test_the_file_has_hashes_alone_and_is_its_owners(file: Path) -> None:
    key, entry = add_key(file, "read", name="search")
    assert key not in file.read_text() and key.rpartition("_")[2] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.id for each in read_keys(file)] == [entry.id]
    known = KeyFile(file).grant_of(key)
    assert known is not None and known.role is Role.READ
    assert KeyFile(file).grant_of(key[:-1]) is None


def test_keys_that_are_made_at_the_same_time_are_all_kept(file: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: add_key(file, "read"), range(24)))
    assert {entry.id for entry in read_keys(file)} == {entry.id for _, entry in made}


def test_keys_by_commands(file: Path) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(program, ["keys", *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    made = json.loads(run("add", str(file), "--role", "write", "--index", "papers", "--json"))
    assert made["key"].startswith(f"mrl_{made['id']}_")
    listed = json.loads(run("list", str(file), "--json"))
    assert [(each["id"], each["role"], each["indexes"]) for each in listed] == [
        (made["id"], "write", ["papers"])
    ]
    assert "sha256" not in listed[0]
    run("revoke", str(file), made["id"])
    assert json.loads(run("list", str(file), "--json")) == []
    with pytest.raises(InvalidInput, match="has no key"):
        revoke_key(file, made["id"])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_no_address_that_others_reach_without_keys(tmp_path: Path, file: Path, host: str) -> None:
    with pytest.raises(InvalidInput, match="needs keys"):
        ServerConfig(tmp_path, host=host)
    assert ServerConfig(tmp_path, host=host, api_keys=file).host == host
