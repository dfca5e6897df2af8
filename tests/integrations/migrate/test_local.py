"""Migrations from databases that run here: a Qdrant local store, a Chroma folder, LanceDB tables, FAISS."""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of packages below them
    chromadb = pytest.importorskip("chromadb", reason="needs the environment of make test-integrations")
    import faiss
    import lancedb
    import pyarrow as pa
    from qdrant_client import QdrantClient, models

import mrlstore
from mrlstore.cli import main
from mrlstore.exchange.migrate import Choice, Migrated, migrate
from mrlstore.storage.vector_rows import to_unit_rows
from tests import inside
from tests.integrations.pages import run_page
from tests.nested import nested

pytestmark = pytest.mark.filterwarnings("ignore")  # of the databases' packages

ROWS, DIM = 10_000, 64
VECTORS = nested(ROWS, DIM, seed=4)
METADATA = [{"number": n, "even": n % 2 == 0, "topic": f"t{n % 7}"} for n in range(ROWS)]
TEXTS = [f"text {n}" for n in range(ROWS)]
DEEP = {"a": {"b": 1}}
UUIDS = [str(uuid.UUID(int=n + 1)) for n in range(ROWS)]


def qdrant(folder: Path) -> tuple[str, Choice]:
    client = QdrantClient(path=str(folder / "qdrant"))
    params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    client.create_collection("papers", vectors_config=params)
    payload = [{**METADATA[n], "text": TEXTS[n]} for n in range(ROWS)]
    client.upload_collection("papers", vectors=VECTORS, payload=payload, ids=UUIDS)
    client.close()
    return f"qdrant:{folder / 'qdrant'}", Choice(document="text")


def chroma(folder: Path, space: str = "cosine") -> tuple[str, Choice]:
    client = chromadb.PersistentClient(str(folder / "chroma"))
    configuration = {"hnsw": {"space": space}}
    made = client.create_collection("papers", embedding_function=None, configuration=configuration)
    for start in range(0, ROWS, 5_000):
        part = slice(start, start + 5_000)
        made.add(ids=UUIDS[part], embeddings=VECTORS[part], metadatas=METADATA[part], documents=TEXTS[part])
    client.close()
    return f"chroma:{folder / 'chroma'}", Choice()


def lance(folder: Path) -> tuple[str, Choice]:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.reshape(-1)), DIM)
    columns = {name: [row[name] for row in METADATA] for name in METADATA[0]}
    table = pa.table({"key": UUIDS, "embedding": flat, "abstract": TEXTS, **columns})
    made = lancedb.connect(folder / "lance").create_table("papers", table)
    made.create_index(metric="cosine", vector_column_name="embedding", index_type="IVF_FLAT")
    return f"lancedb:{folder / 'lance'}", Choice(document="abstract", vector="embedding", id="key")


def faiss_file(folder: Path) -> tuple[str, Choice]:
    index = faiss.IndexFlatIP(DIM)
    index.add(VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True))
    faiss.write_index(index, str(folder / "papers.index"))
    (folder / "ids.txt").write_text("\n".join(UUIDS), encoding="utf-8")
    return f"faiss:{folder / 'papers.index'}", Choice(ids=folder / "ids.txt")


def stored(store: mrlstore.Store, ids: list[str], namespace: str = "") -> list[Any]:
    return store.get(ids, namespace=namespace, include=("metadata", "document", "vector"))


@pytest.mark.parametrize("made", [qdrant, chroma, lance, faiss_file])
def test_ten_thousand_rows_come_over_whole(
    made: Callable[[Path], tuple[str, Choice]], tmp_path: Path, path: Path
) -> None:
    source, choice = made(tmp_path)
    told: list[Any] = []
    done = migrate(path, source, choice=choice, batch=3_000, progress=told.append)
    assert done.ok and done.warnings == () and done.refused == 0, done
    [checked] = done.collections
    assert (checked.read, checked.rows, checked.compared) == (ROWS, ROWS, 100)
    assert checked.asked == 20 and checked.agreed is not None and checked.agreed > 0.9, checked
    assert told[-1].done == told[-1].total == ROWS and len(told) >= 3
    assert not path.with_name(f"{path.name}.migration.json").exists()
    with mrlstore.open(path, mode="r") as store:
        assert store.count() == ROWS and store.verify().ok
        some = list(range(0, ROWS, 97))
        rows = stored(store, [UUIDS[n] for n in some])
        units = to_unit_rows(VECTORS[some])[0]
        for row, n, unit in zip(rows, some, units, strict=True):
            got = to_unit_rows(row.vector[None])[0][0]
            np.testing.assert_allclose(got, unit, rtol=0, atol=2.0**-11)  # a step of float16, at most
            if made is not faiss_file:
                assert (row.metadata, row.document) == (METADATA[n], TEXTS[n])
        true = np.argsort(-(VECTORS @ VECTORS[5]) / np.linalg.norm(VECTORS, axis=1))[:10]
        assert set(store.query(VECTORS[5], 10, exact=True).ids) == {UUIDS[n] for n in true}


@pytest.mark.parametrize("made", [qdrant, chroma, lance, faiss_file])
def test_an_interrupted_migration_goes_on(
    made: Callable[[Path], tuple[str, Choice]], tmp_path: Path, path: Path
) -> None:
    source, choice = made(tmp_path)

    class Enough(Exception):
        pass

    def stop(step: mrlstore.Progress) -> None:
        if step.done >= 4_000:
            raise Enough

    with pytest.raises(Enough):
        migrate(path, source, choice=choice, batch=2_000, progress=stop)
    with mrlstore.open(path) as store:
        assert store.count() == 4_000
    with pytest.raises(mrlstore.InvalidInput, match="not finished"):
        migrate(path, "faiss:elsewhere")
    told: list[mrlstore.Progress] = []
    done = migrate(path, source, choice=choice, batch=2_000, progress=told.append)
    assert told[0].done == 6_000, "what was there is not read again"
    [checked] = done.collections
    assert done.ok and (checked.read, checked.rows, checked.compared) == (ROWS, ROWS, 100)


def test_named_vectors_int_ids_and_points_without_a_vector(tmp_path: Path, path: Path) -> None:
    client = QdrantClient(path=str(tmp_path / "q"))
    params = models.VectorParams(size=4, distance=models.Distance.DOT)
    client.create_collection("two", vectors_config={"title": params, "body": params})
    points = [
        models.PointStruct(id=7, vector={"title": [1, 2, 3, 4], "body": [4, 3, 2, 1]}, payload=DEEP),
        models.PointStruct(id=8, vector={"title": [1, 0, 0, 0]}, payload=None),
        models.PointStruct(id=9, vector={"body": [0, 0, 0, 0], "title": [0, 1, 0, 0]}),
    ]
    client.upsert("two", points)
    client.close()
    with pytest.raises(mrlstore.InvalidInput, match="choose one vector of 'title', 'body'"):
        migrate(path, f"qdrant:{tmp_path / 'q'}")
    assert not path.exists(), "nothing is made before the source fits"
    done = migrate(path, f"qdrant:{tmp_path / 'q'}", choice=Choice(vector="body", namespace="bodies"))
    assert not done.ok and done.problems == () and (done.read, done.rows, done.refused) == (3, 2, 1)
    assert "zero vector" in done.refusals[0].why
    assert any("dot" in warning for warning in done.warnings)
    assert any("only 'body'" in warning for warning in done.warnings)
    with mrlstore.open(path, mode="r") as store:
        seven, eight = stored(store, ["7", "8"], "bodies")
        assert seven.vector.tolist() == pytest.approx([4, 3, 2, 1], rel=1e-3)
        assert seven.metadata == DEEP and eight.vector is None


def test_several_collections_go_to_namespaces(tmp_path: Path, path: Path) -> None:
    client = chromadb.PersistentClient(str(tmp_path / "c"))
    for name, dim in (("papers", 4), ("books", 4), ("other", 8)):
        rows = np.eye(dim, dtype=np.float32)
        client.create_collection(name, embedding_function=None).add(ids=list("abcd"), embeddings=rows[:4])
    client.close()
    source = f"chroma:{tmp_path / 'c'}"
    with pytest.raises(mrlstore.InvalidInput, match="different dimensions"):
        migrate(path, source)
    with pytest.raises(mrlstore.InvalidInput, match="there are: 'books', 'other', 'papers'"):
        migrate(path, source, choice=Choice(collections=("films",)))
    both = Choice(collections=("papers", "books"))
    with pytest.raises(mrlstore.InvalidInput, match="namespace"):
        migrate(path, source, choice=Choice(collections=("papers", "books"), namespace="one"))
    done = migrate(path, source, choice=both)
    assert done.ok and len(done.warnings) == 2 and "Euclidean" in done.warnings[0]
    with mrlstore.open(path, mode="r") as store:
        assert store.namespaces() == {"papers": 4, "books": 4}
    with pytest.raises(mrlstore.InvalidInput, match="8 dimensions"):
        migrate(path, source, choice=Choice(collections=("other",)))


def test_a_difference_is_found(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, choice = faiss_file(tmp_path)
    migration = inside.module("mrlstore.exchange.migrate.migration")
    put = migration.put

    def careless(store: Any, rows: Any, *others: Any, **options: Any) -> None:
        put(store, rows, *others, **options)
        store.delete([rows[0].id])
        store.upsert([rows[1].id], VECTORS[:1])

    monkeypatch.setattr(migration, "put", careless)
    done: Migrated = migrate(path, source, choice=choice, sample=10_000)
    assert not done.ok
    told = " ".join(done.collections[0].problems)
    assert "9,998" in told and "4 of 10000 sampled rows differ" in told


def test_faiss_kinds(tmp_path: Path) -> None:
    rows = VECTORS[:500]
    numbered = faiss.IndexIDMap(faiss.IndexFlatL2(DIM))
    numbered.add_with_ids(rows, np.arange(500) * 3)
    coarse = faiss.IndexIVFFlat(faiss.IndexFlatL2(DIM), DIM, 4)
    coarse.train(rows)
    coarse.add(rows)
    graph = faiss.IndexHNSWFlat(DIM, 8)
    graph.add(rows)
    for name, index, last in (("map", numbered, "1497"), ("ivf", coarse, "499"), ("hnsw", graph, "499")):
        faiss.write_index(index, str(tmp_path / name))
        done = migrate(tmp_path / f"{name}.mrl", f"faiss:{tmp_path / name}")
        assert done.ok, (name, done)
        with mrlstore.open(tmp_path / f"{name}.mrl", mode="r") as store:
            [row] = stored(store, [last])
            assert row.vector.tolist() == pytest.approx(rows[-1].tolist(), abs=1e-2)
    (tmp_path / "few.txt").write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(mrlstore.InvalidInput, match="2 ids for 500"):
        migrate(tmp_path / "n.mrl", f"faiss:{tmp_path / 'map'}", choice=Choice(ids=tmp_path / "few.txt"))
    (tmp_path / "no.index").write_bytes(b"nothing")
    with pytest.raises(mrlstore.InvalidInput, match="no FAISS index"):
        migrate(tmp_path / "n.mrl", f"faiss:{tmp_path / 'no.index'}")


def own_numbers() -> Any:
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(DIM), DIM, 4)
    index.train(VECTORS[:500])
    index.add_with_ids(VECTORS[:500], np.arange(500) * 7 + 10**12)
    return index, [str(n * 7 + 10**12) for n in range(500)], VECTORS[:500]


def after_removal() -> Any:
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(DIM), DIM, 4)
    index.train(VECTORS[:500])
    index.add(VECTORS[:500])
    index.remove_ids(np.arange(0, 500, 3))
    kept = [n for n in range(500) if n % 3]
    return index, [str(n) for n in kept], VECTORS[kept]


def flat_after_removal() -> Any:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(DIM))
    index.add_with_ids(VECTORS[:500], np.arange(500) + 100)
    index.remove_ids(np.arange(100, 350))
    return index, [str(n) for n in range(350, 600)], VECTORS[250:500]


def rotated() -> Any:
    index = faiss.index_factory(DIM, "OPQ8_64,IVF4,SQ8")
    index.train(VECTORS[:2_000])
    index.add_with_ids(VECTORS[:500], np.arange(500) * 2)
    return index, [str(n * 2) for n in range(500)], VECTORS[:500]


@pytest.mark.parametrize("made", [own_numbers, after_removal, flat_after_removal, rotated])
def test_faiss_with_numbers_of_its_own(made: Callable[[], Any], tmp_path: Path, path: Path) -> None:
    index, ids, vectors = made()
    faiss.write_index(index, str(tmp_path / "i"))
    done = migrate(path, f"faiss:{tmp_path / 'i'}", batch=100)
    assert done.ok and done.rows == len(ids), done
    with mrlstore.open(path, mode="r") as store:
        assert sorted(record.id for record in store.scan()) == sorted(ids)
        cosines = [store.query(vectors[n], 1, exact=True).ids == [ids[n]] for n in range(0, len(ids), 10)]
        assert np.mean(cosines) > 0.9
    (tmp_path / "ids").write_text("\n".join(f"name {n}" for n in range(len(ids))), encoding="utf-8")
    done = migrate(tmp_path / "n.mrl", f"faiss:{tmp_path / 'i'}", choice=Choice(ids=tmp_path / "ids"))
    with mrlstore.open(tmp_path / "n.mrl", mode="r") as store:
        assert done.ok and store.query(vectors[30], 1, exact=True).ids == ["name 30"]


def test_collections_that_cannot_be_copied_are_left_out_unless_chosen(tmp_path: Path, path: Path) -> None:
    client = QdrantClient(path=str(tmp_path / "q"))
    plain = models.VectorParams(size=4, distance=models.Distance.COSINE)
    comparator = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    many = models.VectorParams(size=4, distance=models.Distance.COSINE, multivector_config=comparator)
    client.create_collection("plain", vectors_config=plain)
    client.create_collection("pages", vectors_config=many)
    client.create_collection("two", vectors_config={"a": plain, "b": plain})
    client.create_collection(
        "sparse", vectors_config={}, sparse_vectors_config={"s": models.SparseVectorParams()}
    )
    client.upsert("plain", [models.PointStruct(id=1, vector=[1, 2, 3, 4], payload={"n": 1})])
    client.upsert("pages", [models.PointStruct(id=1, vector=[[1, 2, 3, 4], [4, 3, 2, 1]])])
    client.close()
    source = f"qdrant:{tmp_path / 'q'}"
    done = migrate(path, source)
    assert done.ok and done.rows == 1, done
    assert [name for name in ("'pages'", "'two'", "'sparse'") if name in " ".join(done.warnings)] == [
        "'pages'",
        "'two'",
        "'sparse'",
    ]
    for name in ("pages", "two", "sparse"):
        with pytest.raises(mrlstore.InvalidInput, match=name):
            migrate(path, source, choice=Choice(collections=("plain", name)))


def test_columns_that_cannot_be_stored(
    tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import decimal

    rows = VECTORS[:20]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), DIM)
    table = pa.table(
        {
            "id": [f"r{n}" for n in range(20)],
            "vector": flat,
            "price": pa.array([decimal.Decimal("1.50")] * 20),
            "raw": [b"bytes"] * 20,
            "took": pa.array([5] * 20, pa.duration("us")),
            "share": [float("nan")] * 20,
        }
    )
    lancedb.connect(tmp_path / "lance").create_table("papers", table)
    source = f"lancedb:{tmp_path / 'lance'}"
    done = migrate(path, source)
    assert (done.ok, done.read, done.rows, done.refused) == (False, 20, 0, 20)
    assert "all were refused" in done.problems[0]
    assert done.refusals[-1].place == "papers:20"
    assert main(["migrate", str(tmp_path / "c.mrl"), source]) == 1
    omitted = ("price", "raw", "took")
    done = migrate(tmp_path / "d.mrl", source, choice=Choice(omit=omitted))
    assert done.ok and done.rows == 20, done
    command = ["migrate", str(tmp_path / "e.mrl"), source, *(f"--omit={name}" for name in omitted)]
    assert main(command) == 0
    capsys.readouterr()
    with mrlstore.open(tmp_path / "e.mrl", mode="r") as store:
        assert store.count() == 20 and not store.get(["r1"])[0].metadata


def test_a_field_of_a_payload_is_left_out(tmp_path: Path, path: Path) -> None:
    client = QdrantClient(path=str(tmp_path / "q"))
    params = models.VectorParams(size=4, distance=models.Distance.COSINE)
    client.create_collection("papers", vectors_config=params)
    client.upsert(
        "papers", [models.PointStruct(id=1, vector=[1, 2, 3, 4], payload={"n": 1, "big": "x" * 99_999})]
    )
    client.close()
    assert migrate(path, f"qdrant:{tmp_path / 'q'}").rows == 0
    done = migrate(tmp_path / "b.mrl", f"qdrant:{tmp_path / 'q'}", choice=Choice(omit=("big",)))
    chroma_client = chromadb.PersistentClient(str(tmp_path / "c"))
    made = chroma_client.create_collection("papers", embedding_function=None)
    made.add(ids=["1"], embeddings=[[1, 2, 3, 4]], metadatas=[{"n": 1, "big": "x" * 99_999}])
    chroma_client.close()
    assert (
        done.ok and migrate(tmp_path / "d.mrl", f"chroma:{tmp_path / 'c'}", choice=Choice(omit=("big",))).ok
    )
    for name in ("b", "d"):
        with mrlstore.open(tmp_path / f"{name}.mrl", mode="r") as store:
            assert store.get(["1"])[0].metadata == {"n": 1}


def test_a_damaged_database_is_told(tmp_path: Path, path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "chroma.sqlite3").write_bytes(b"no database at all" * 100)
    with pytest.raises(mrlstore.OriginError, match="chroma:"):
        migrate(path, f"chroma:{tmp_path / 'c'}")
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "meta.json").write_text("{")
    with pytest.raises(mrlstore.OriginError, match="qdrant:"):
        migrate(path, f"qdrant:{tmp_path / 'q'}")
    assert not path.exists()


@pytest.mark.parametrize("kind", ["qdrant", "chroma", "lancedb", "faiss"])
def test_nothing_is_made_where_nothing_is(kind: str, tmp_path: Path, path: Path) -> None:
    with pytest.raises(mrlstore.InvalidInput):
        migrate(path, f"{kind}:{tmp_path / 'absent'}")
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, _ = lance(tmp_path)
    command = ["migrate", str(path), source, "--id", "key", "--vector", "embedding", "--document", "abstract"]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] and told["collections"][0]["rows"] == ROWS
    assert main(command) == 0
    assert "10,000 rows read, 10,000 in the unnamed namespace; 100 compared" in capsys.readouterr().out
    assert main(["migrate", str(path), source, "--id", "nothing"]) == 2
    assert "no column 'nothing'" in capsys.readouterr().err


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page("migrate", tmp_path, monkeypatch)


@pytest.mark.parametrize("fill", [qdrant, chroma, lance])
def test_a_folder_says_which_database_it_is(
    fill: Callable[[Path], tuple[str, Choice]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.ROWS", 20)
    monkeypatch.setattr(f"{__name__}.VECTORS", VECTORS[:20])
    for name in ("METADATA", "TEXTS", "UUIDS"):
        monkeypatch.setattr(f"{__name__}.{name}", globals()[name][:20])
    source, choice = fill(tmp_path)
    done = migrate(tmp_path / "store.mrl", source.partition(":")[2], choice=choice)
    assert done.ok and done.rows == 20
