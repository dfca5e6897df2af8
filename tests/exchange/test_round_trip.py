"""Whatever goes out comes back in: ids, namespaces, metadata, documents, and the stored float16 bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.exchange import export_rows, import_rows, to_arrow, to_batches, to_pandas, to_polars
from tests import inside

from .conftest import fill, held

Opened = Callable[..., Any]
FILES = [
    ("jsonl", "float32", False),
    ("jsonl", "float32", True),
    ("jsonl", "float16", True),
    ("parquet", "float32", False),
    ("parquet", "float16", False),
    ("arrow", "float32", False),
    ("arrow", "float16", False),
]


@pytest.mark.parametrize(("format", "dtype", "beside"), FILES)
@pytest.mark.parametrize("flushed", [False, True])
def test_files(
    full: mrlstore.Store, opened: Opened, tmp_path: Path, format: str, dtype: Any, beside: bool, flushed: bool
) -> None:
    if format != "jsonl":
        pytest.importorskip("pyarrow")
    if flushed:
        full.optimize()
    target = tmp_path / f"rows.{format}"
    array = tmp_path / "rows.npy" if beside else None
    done = export_rows(full, target, vectors=array, dtype=dtype)
    assert done.rows == 600
    assert sorted(path.name for path in tmp_path.glob("*rows*")) == sorted(
        [target.name] + (["rows.npy"] if beside else [])
    )
    copy = opened(tmp_path / "copy.mrl")
    came = import_rows(copy, target, vectors=array, batch=70)
    assert (came.written, came.skipped, came.refused) == (600, 0, 0), came.refusals[:3]
    assert held(copy) == held(full)
    if array is not None:
        assert np.load(array, allow_pickle=False).shape == (600, 6)
        assert np.load(array, allow_pickle=False).dtype == dtype


def test_frames_and_tables(full: mrlstore.Store, opened: Opened, tmp_path: Path) -> None:
    for package, give in (("pyarrow", to_arrow), ("pandas", to_pandas), ("polars", to_polars)):
        pytest.importorskip(package)
        with mrlstore.open(tmp_path / f"{package}.mrl", auto_maintain=False) as copy:
            assert import_rows(copy, give(full)).written == 600
            assert held(copy) == held(full), package
    with mrlstore.open(tmp_path / "reader.mrl", auto_maintain=False) as copy:
        assert import_rows(copy, to_batches(full, dtype="float16")).written == 600
        assert held(copy) == held(full)


def test_a_frame_is_typed_slice_by_slice(opened: Opened, tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    count = 5000
    vectors: list[Any] = [None] * count  # a slice without vectors, one of whole numbers, one of fractions
    vectors[2200:] = [[1, 2, n] for n in range(2200, 4000)] + [[0.5, 1.5, n] for n in range(4000, count)]
    metadata: list[Any] = [{"n": n} if n < 3072 else {"text": "x"} for n in range(count)]
    frame = pd.DataFrame({"id": [f"{n:04}" for n in range(count)], "vector": vectors, "metadata": metadata})
    store = opened(tmp_path / "copy.mrl")
    done = import_rows(store, frame, batch=700)
    assert (done.written, done.refused) == (count, 0), done.refusals[:2]
    assert store.stats().rows_without_vector == 2200
    first, last = store.get(["2200", "4999"], include=("metadata", "vector"))
    assert first.vector.tolist() == pytest.approx([1, 2, 2200], rel=1e-3) and first.metadata == {"n": 2200}
    assert last.vector.tolist() == pytest.approx([0.5, 1.5, 4999], abs=3) and last.metadata == {"text": "x"}
    done = import_rows(store, pd.DataFrame({"id": ["a", "b"], "vector": [[1.0, 2.0, 3.0], "words"]}))
    assert (done.written, [refusal.place for refusal in done.refusals]) == (1, ["row:2"])
    with pytest.raises(mrlstore.InvalidInput, match="no column 'id'"):
        import_rows(store, pd.DataFrame({"name": []}))


def test_one_namespace_can_move_to_another(full: mrlstore.Store, opened: Opened, tmp_path: Path) -> None:
    lines = io.BytesIO()
    assert export_rows(full, lines, namespace="zweite/„ns“", where={"n": {"$lt": 100}}).rows == 80
    copy = opened(tmp_path / "copy.mrl")
    lines.seek(0)
    assert import_rows(copy, lines, namespace="third").written == 80
    assert copy.namespaces() == {"third": 80}


def test_an_export_goes_on_behind_its_cursor(full: mrlstore.Store, opened: Opened, tmp_path: Path) -> None:
    copy = opened(tmp_path / "copy.mrl")
    cursor, seen = None, 0
    while (done := export_rows(full, lines := io.BytesIO(), limit=130, after=cursor)).rows:
        cursor, seen = done.cursor, seen + 1
        lines.seek(0)
        import_rows(copy, lines)
    assert seen == 5
    assert held(copy) == held(full)


def test_pages_of_ids_follow_each_other(full: mrlstore.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.EXPORT_PAGE, 64)
    monkeypatch.setattr(inside.EXPORT_BLOCK_BYTES, 20_000)
    whole = io.BytesIO()
    assert export_rows(full, whole).rows == 600
    assert len(whole.getvalue().splitlines()) == 600
    assert export_rows(full, io.BytesIO(), limit=131).rows == 131


def test_an_import_that_was_cut_off_goes_on(full: mrlstore.Store, opened: Opened, tmp_path: Path) -> None:
    export_rows(full, tmp_path / "rows.jsonl")
    copy = opened(tmp_path / "copy.mrl")

    def cut(progress: mrlstore.Progress) -> None:
        if progress.done > progress.total / 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_rows(copy, tmp_path / "rows.jsonl", batch=50, progress=cut)
    there = len(copy)
    assert 150 <= there < 600
    done = import_rows(copy, tmp_path / "rows.jsonl", batch=50, on_conflict="skip")
    assert (done.written, done.skipped) == (600 - there, there)
    assert held(copy) == held(full)


def test_empty_stores(opened: Opened, tmp_path: Path) -> None:
    empty = opened(tmp_path / "empty.mrl")
    for format in ("jsonl", "parquet", "arrow"):
        if format != "jsonl":
            pytest.importorskip("pyarrow")
        target = tmp_path / f"none.{format}"
        assert export_rows(empty, target).cursor is None
        assert import_rows(empty, target).rows == 0


def test_progress_ends_at_its_total(full: mrlstore.Store, tmp_path: Path) -> None:
    seen: list[mrlstore.Progress] = []
    export_rows(full, tmp_path / "rows.jsonl", progress=seen.append)
    assert (seen[-1].done, seen[-1].total) == (600, 600)
    import_rows(full, tmp_path / "rows.jsonl", progress=seen.append)
    assert seen[-1].done == seen[-1].total == (tmp_path / "rows.jsonl").stat().st_size


def test_big_enough_batches_take_the_way_past_the_tail(opened: Opened, tmp_path: Path) -> None:
    store, copy = opened(tmp_path / "a.mrl"), opened(tmp_path / "b.mrl")
    fill(store, 5500)
    export_rows(store, tmp_path / "rows.jsonl")
    import_rows(copy, tmp_path / "rows.jsonl", batch=5500)
    assert held(copy) == held(store)


def test_jsonl_keeps_the_sign_of_zero(tmp_path: Path) -> None:
    vectors = np.array([[1.0, -0.0, 0.0, -1e-9]], dtype=np.float32)
    found = []
    for name in ("one", "two"):
        with mrlstore.open(tmp_path / f"{name}.mrl", auto_maintain=False) as store:
            if name == "one":
                store.upsert(["x"], vectors)
                export_rows(store, tmp_path / "rows.jsonl")
            else:
                import_rows(store, tmp_path / "rows.jsonl")
            found.append(np.signbit(np.asarray(store.get(["x"], include=("vector",))[0].vector)).tolist())
    assert found == [[False, True, False, True]] * 2
