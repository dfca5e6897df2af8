"""What others put into a store's folder, by accident or by design: files, pipes, links, forged names."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

import mrlstore
from mrlstore.catalogue import segments
from mrlstore.planning.calibration_curves import VERSION
from mrlstore.storage.base_part import base_arrays, write_base
from tests import inside
from tests.children import Child, Pipe, children
from tests.oracle import nested_vectors

DIM, ROWS = 8, 300
QUERY = nested_vectors(1, DIM, seed=90)[0]


@pytest.fixture
def filled(path: Path) -> Path:
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        store.upsert(
            [f"r{i}" for i in range(ROWS)], nested_vectors(ROWS, DIM), [{"n": i} for i in range(ROWS)]
        )
        store.optimize()
    return path


def work(path: Path, target: Path) -> None:
    """Everything that goes through the folders."""
    with mrlstore.open(path, auto_maintain=False) as store:
        store.delete([f"r{i}" for i in range(100)])
        store.optimize()
        store.upsert(["new"], [QUERY])
        store.optimize()
        store.backup(target)
        assert len(store.query(QUERY, k=ROWS)) == ROWS - 99
        assert store.verify().ok
    with mrlstore.open(target, mode="r") as copy:
        assert copy.verify().ok


def test_files_of_others_are_left_alone(filled: Path, tmp_path: Path) -> None:
    strays = [
        filled / ".DS_Store",
        filled / "parts" / ".DS_Store",
        filled / "parts" / "lost+found" / "a" / "b",
    ]
    strays += [
        filled / "parts" / ("a" * 32) / "folder" / "x",
        next((filled / "parts").iterdir()) / ".DS_Store",
    ]
    for stray in strays:
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_bytes(b"x")
    strays[-1].with_name("folder").mkdir()
    work(filled, tmp_path / "copy.mrl")
    assert all(stray.exists() for stray in strays[:4])


def test_nothing_behind_a_link_is_deleted(filled: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious" / "file"
    precious.parent.mkdir()
    precious.write_bytes(b"x")
    (filled / "parts" / ("a" * 32)).symlink_to(precious.parent)
    work(filled, tmp_path / "copy.mrl")
    assert precious.exists()


def _open_pipes(pipe: Pipe, path: str) -> None:
    said = []
    for mode in ("r", "a"):
        try:
            with mrlstore.open(path, mode=mode, auto_maintain=False) as store:
                store.query(QUERY)
                said.append("found" if not store.verify().ok else "ok")
        except mrlstore.MrlStoreError as error:
            said.append(type(error).__name__)
    pipe.send(said)


@pytest.mark.parametrize(
    "name",
    [
        "catalogue.db",
        "vectors.npy",
        "part.json",
        "codes.npy",
        "columns.npy",
        "LOCK",
        "catalogue.db-journal",
        "catalogue.db-wal",
    ],
)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(filled: Path, name: str) -> None:
    file = next(filled.rglob(name), filled / name)
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    with children(Child(_open_pipes, str(filled))) as (child,):
        said = child.receive(60)
        child.finish()
    assert set(said) <= ({"ok"} if name == "LOCK" else {"CorruptStore", "found"})


def forge(path: Path, change: Any) -> None:
    """Rewrite the one segment's row, its crc included."""
    with mrlstore.open(path, auto_maintain=False) as store, inside.session(store).catalogue.write() as write:
        (row,) = segments.load(write.connection)
        segments.replace(write.connection, write.generation, change(row))


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc", "", "A" * 32, "a" * 33, "a/b"])
def test_a_part_named_elsewhere_is_refused(filled: Path, name: str) -> None:
    forge(filled, lambda row: replace(row, base=replace(row.base, name=name)))
    with mrlstore.open(filled, auto_maintain=False) as store:
        for call in (lambda: store.query(QUERY), store.optimize, lambda: len(store.query(QUERY, exact=True))):
            with pytest.raises(mrlstore.CorruptStore, match="names no parts"):
                call()
        assert not store.verify().ok


def test_a_part_of_other_dims_is_refused(filled: Path) -> None:
    """Kernels read as many numbers of a query as a row has."""
    with mrlstore.open(filled, auto_maintain=False) as store:
        session = inside.session(store)
        arrays = base_arrays(
            np.arange(1, ROWS + 1), np.ones((ROWS, 4 * DIM), np.float16), np.ones(ROWS, np.float32)
        )
        names = [f"r{i}" for i in range(ROWS)]
        part = write_base(
            session.files, session.parts, session.settings.store_uuid, [""] * ROWS, names, arrays
        )
        part.release()
    forge(filled, lambda row: replace(row, base=part.ref, index=None, columns=None))
    with (
        mrlstore.open(filled, auto_maintain=False) as store,
        pytest.raises(mrlstore.CorruptStore, match="dims"),
    ):
        store.query(QUERY)


@pytest.mark.parametrize("missing", ["codes", "entries", "rotation", "unprefixed_starts"])
def test_an_index_that_lacks_an_array_is_worked_around(path: Path, missing: str) -> None:
    rows = nested_vectors(2_100, DIM)
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(2_100)], rows)
        store.optimize()
        expected = store.query(QUERY, exact=True).ids
        (held,) = inside.session(store).snapshots.latest().segments
        index = held.segment.row.index
    assert index is not None
    file = path / "parts" / index.name / "part.json"
    head = json.loads(file.read_text())
    del head["files"][missing]
    file.write_text(json.dumps(head))
    forged = replace(index, crc=zlib.crc32(file.read_bytes()))
    forge(path, lambda row: replace(row, index=forged))
    with mrlstore.open(path, auto_maintain=False) as store:
        with pytest.warns(mrlstore.DamagedPartWarning):
            assert store.query(QUERY).ids == expected
        assert not store.verify().ok


def test_an_index_with_arrays_of_other_types_is_worked_around(path: Path) -> None:
    """All of one size, so that shapes and bytes fit, and every checksum is right."""
    rows = nested_vectors(2_100, DIM)
    rows[2_000:] = rows[:100]
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(2_100)], rows)
        store.optimize()
        expected = store.query(QUERY, exact=True, include=()).ids
        index = inside.session(store).snapshots.latest().segments[0].segment.row.index
    assert index is not None
    folder = path / "parts" / index.name
    whole = json.loads((folder / "part.json").read_text())
    for name, other in (("copies", "<f4"), ("copy_sets", "<f4"), ("entries", "<f4"), ("entry_starts", "<f8"),
                        ("unprefixed", "<f4"), ("neighbours", "<f4"), ("copy_starts", "<u8")):  # fmt: skip
        file, head = folder / f"{name}.npy", json.loads(json.dumps(whole))
        held = file.read_bytes()
        changed = np.load(file).view(other)
        file.chmod(0o600)
        np.save(file, changed)
        entry = {"dtype": other, "crc32": zlib.crc32(file.read_bytes())}
        head["files"][name] |= entry
        (folder / "part.json").chmod(0o600)
        (folder / "part.json").write_text(json.dumps(head))
        forged = replace(index, crc=zlib.crc32((folder / "part.json").read_bytes()))
        forge(path, lambda row, forged=forged: replace(row, index=forged))
        with mrlstore.open(path, auto_maintain=False) as store:
            with pytest.warns(mrlstore.DamagedPartWarning):
                assert store.query(QUERY, include=()).ids == expected, name
            assert not store.verify().ok
        file.write_bytes(held)


@pytest.mark.parametrize(
    ("name", "value"), [("dim", 2**40), ("dim", 1), ("prefix_dim", 9), ("prefix_dim", 0)]
)
def test_dims_beyond_the_limits_are_refused(filled: Path, name: str, value: int) -> None:
    connection = apsw.Connection(str(filled / "catalogue.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    crc = zlib.crc32(f"{name}={value!r}".encode())
    connection.execute("UPDATE settings SET value = ?, crc = ? WHERE name = ?", (value, crc, name))
    connection.close()
    with pytest.raises(mrlstore.CorruptStore, match=name):
        mrlstore.open(filled)


@pytest.mark.parametrize("text", ["no JSON", "[1]", "7", "[" * 100_000, "{}{}", '{"a":1},{"b":2}', '{"a":[1'])
def test_metadata_that_are_no_object(filled: Path, text: str) -> None:
    """The row's checksum fits: whoever may write to the store can forge it."""
    from mrlstore.catalogue import rows

    with mrlstore.open(filled, auto_maintain=False) as store:
        with inside.session(store).catalogue.write() as write:
            (row,) = rows.by_id(write.connection, "", ["r7"])
            crc = inside.row_crc(inside.changed_row(row, metadata=text))
            write.connection.execute("UPDATE rows SET metadata = ?, crc = ? WHERE id = 'r7'", (text, crc))
        with pytest.raises(mrlstore.CorruptStore, match="metadata"):
            store.get(["r7"])
        with pytest.raises(mrlstore.CorruptStore, match="metadata"):
            list(store.scan(include=("metadata",)))


def forge_setting(path: Path, name: str, value: Any) -> None:
    connection = apsw.Connection(str(path / "catalogue.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    crc = zlib.crc32(f"{name}={value!r}".encode())
    connection.execute("UPDATE settings SET value = ?, crc = ? WHERE name = ?", (value, crc, name))
    connection.close()


WRONG_NUMBERS = (-1, 2**63 - 1, 2.5, "16", None, b"16")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("m", "ef_construction") for value in (0, 1, 2_001, *WRONG_NUMBERS)),
        *((name, value) for name in ("generation", "next_key", "floor_gen") for value in WRONG_NUMBERS),
        *(("format_version", value) for value in (0, *WRONG_NUMBERS) if value != 2**63 - 1),
        *(("tokenizer", value) for value in ("icu", "", "unicode61'", 7, 2.5, None, b"porter")),
        *(("store_uuid", value) for value in ("", "../..", "\ud7ff" * 32, 7, None, "A" * 32)),
        *((name, value) for name in ("dim", "prefix_dim") for value in (2.5, "8", -1, b"8")),
    ],
    ids=repr,
)
def test_forged_settings_are_damage(filled: Path, name: str, value: Any) -> None:
    """Their checksums fit. Whatever the store is used for ends in CorruptStore, or as without the forgery."""
    forge_setting(filled, name, value)
    with (
        pytest.raises(mrlstore.CorruptStore, match=name),
        mrlstore.open(filled, auto_maintain=False) as store,
    ):
        store.upsert(["new"], np.ones((1, DIM)))
        store.optimize()


@pytest.mark.parametrize("value", [7, 2.5, b"text"])
def test_a_forged_embedder_is_damage(filled: Path, value: Any) -> None:
    class Embedder:
        model, dim = "m", DIM

        def embed_documents(self, texts: Any) -> Any:
            return np.ones((len(texts), DIM))

        def embed_query(self, text: Any) -> Any:
            return np.ones(DIM)

    forge_setting(filled, "embedder", value)
    embedder: Any = Embedder()
    with (
        mrlstore.open(filled, auto_maintain=False, embedder=embedder) as store,
        pytest.raises(mrlstore.CorruptStore, match="embedder"),
    ):
        store.add(documents=["text"])


FORGED_LEVELS: list[tuple[str, Any]] = [
    ("way", "run"),
    ("way", None),
    ("way", ["walk"]),
    ("ef", -1),
    ("ef", 2**70),
    ("ef", 1.5),
    ("ef", "9"),
    ("ef", True),
    ("shortlist", 10_001),
    ("slack", float("nan")),
    ("slack", float("inf")),
    ("slack", -0.1),
    ("margin", "3"),
    ("recall", 1.5),
    ("recall", None),
    ("trials", -1),
    ("error", float("-inf")),
    ("visited", []),
    ("cost_us", {}),
]
FORGED_CURVES: list[tuple[str, Any]] = [
    ("k", 0),
    ("k", -3),
    ("k", 2**40),
    ("k", "10"),
    ("k", None),
    ("k", 11),  # that of another curve
    ("name", "most"),
    ("name", 3),
    ("levels", []),
    ("levels", {}),
    ("levels", [7]),
    ("levels", None),
    ("queries", "many"),
    ("source", "nowhere"),
    ("rows", -1),
    ("mark", 0.5),
    ("prefix_dim", 0),
    ("version", None),
]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibrated") / "s.mrl"
    with mrlstore.open(path, dim=DIM, prefix_dim=4, auto_maintain=False) as store:
        rows = nested_vectors(2_100, DIM)
        store.upsert([f"r{i}" for i in range(2_100)], rows, [{"n": i} for i in range(2_100)])
        store.optimize()
        assert store.query(QUERY).plan.expected is not None
    return path


def forge_calibration(path: Path, change: Any) -> None:
    connection = apsw.Connection(str(path / "catalogue.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    found: list[Any] = connection.execute("SELECT k, class, value FROM calibration").fetchall()
    for k, name, text in found:
        forged = change(json.loads(text))
        text = forged if isinstance(forged, str) else json.dumps(forged)
        crc = zlib.crc32(f"{k},{name}={text}".encode())
        connection.execute(
            "UPDATE calibration SET value = ?, crc = ? WHERE k = ? AND class = ?", (text, crc, k, name)
        )
    connection.close()


def of_another_version(change: Any) -> bool:
    """Whether the forgery looks like a calibration of another version, which is no damage."""
    forged = change({"version": VERSION, "levels": [{}]})
    return bool(forged == "{}" or (isinstance(forged, dict) and forged["version"] != VERSION))


def in_a_level(field: str, value: Any) -> Any:
    return lambda curve: {**curve, "levels": [{**level, field: value} for level in curve["levels"]]}


@pytest.mark.parametrize(
    "change",
    [
        *(in_a_level(*forged) for forged in FORGED_LEVELS),
        *((lambda curve, f=forged: {**curve, f[0]: f[1]}) for forged in FORGED_CURVES),
        *((lambda _, t=text: t) for text in ("", "no JSON", "[1]", "7", "null", "[" * 100_000, "{}")),
    ],
    ids=[
        *map(repr, FORGED_LEVELS),
        *map(repr, FORGED_CURVES),
        "empty",
        "text",
        "list",
        "7",
        "null",
        "deep",
        "{}",
    ],
)
def test_forged_calibrations_are_as_none(calibrated: Path, tmp_path: Path, change: Any) -> None:
    """Their checksums fit. Queries are planned as in a store that was never calibrated."""
    path = tmp_path / "s.mrl"
    shutil.copytree(calibrated, path)
    with mrlstore.open(path, auto_maintain=False) as store:
        expected = store.query(QUERY, exact=True).ids
    forge_calibration(path, change)
    with mrlstore.open(path, auto_maintain=False) as store:
        for options in (
            {},
            {"k": 1},
            {"target_recall": 0.9},
            {"target_recall": 0.999},
            {"where": {"n": {"$lt": 9}}},
        ):
            result = store.query(QUERY, **options)
            assert result.plan.expected is None, "nothing was measured"
        assert store.query(QUERY).ids == expected
        assert store.verify().ok == of_another_version(change)
        store.optimize()
        assert store.query(QUERY).plan.expected is not None and store.verify().ok


@pytest.mark.parametrize(
    "change",
    [
        {"vector": b"abc"},
        {"vector": b""},
        {"vector": b"\0" * 4 * DIM},
        {"vector": b"\0" * 2 * DIM},
        {"vector": b"\0\x80" * DIM},
        {"vector": b"\xff\x7f" * DIM},
        {"vector": b"\0\x7c" * DIM},
        {"norm": float("inf")},
        {"norm": 0.0},
        {"norm": -1.0},
        {"norm": 1e300},
        {"gen": -5},
    ],
    ids=lambda change: repr(change)[:30],
)
def test_forged_tail_rows_are_damage(path: Path, change: dict[str, Any]) -> None:
    """Their checksums fit. repair() takes them out, and the rest of the store is as before."""
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        store.upsert(["a", "b", "c"], np.eye(3, DIM))
    connection = apsw.Connection(str(path / "catalogue.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    found: list[Any] = connection.execute("SELECT key, vector, norm, gen FROM tail ORDER BY key").fetchall()
    row = dict(zip(("key", "vector", "norm", "gen"), found[0], strict=True)) | change
    crc = zlib.crc32(row["vector"], zlib.crc32(struct.pack("<qqd", row["key"], row["gen"], row["norm"])))
    connection.execute(
        "UPDATE tail SET vector = ?, norm = ?, gen = ?, crc = ? WHERE key = ?",
        (row["vector"], row["norm"], row["gen"], crc, row["key"]),
    )
    connection.close()
    with mrlstore.open(path, auto_maintain=False) as store:
        calls: list[Any] = [
            lambda: store.query(np.ones(DIM)),
            lambda: store.get(["a"], include=["vector"]),
            lambda: store.update(["a"], [{"x": 1}]),
            store.optimize,
        ]
        for call in calls if "gen" not in change else calls[1:3]:
            with pytest.raises(mrlstore.CorruptStore):
                call()
        assert not store.verify().ok
        store.repair()
        assert store.verify().ok
        assert set(store.query(np.ones(DIM)).ids) == {"b", "c"}
