"""Import from object storage and export to it: in memory, and in a folder by its file:// URL."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from mrlstore.cli import main
from mrlstore.errors import InvalidInput, ObjectNotFound, StoreExists
from mrlstore.exchange import export_rows, import_rows
from tests import inside
from tests.exchange.conftest import held
from tests.object_storage.doubles import MemoryStorage


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> MemoryStorage:
    """What lies at s3://bucket/folder, and nothing anywhere else."""
    found = MemoryStorage()

    def opened(url: str) -> MemoryStorage:
        return found if url == "s3://bucket/folder" else MemoryStorage()

    monkeypatch.setattr(inside.OBJECT_FILES_OPEN, opened)
    return found


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet", "rows.arrow"])
def test_an_export_comes_back(
    name: str, bucket: MemoryStorage, full: mrlstore.Store, opened: Callable[..., Any], tmp_path: Path
) -> None:
    if name.endswith(("parquet", "arrow")):
        pytest.importorskip("pyarrow")
    url = f"s3://bucket/folder/{name}"
    assert export_rows(full, url).rows == 600
    assert list(bucket.objects) == [name]
    copy, seen = opened(tmp_path / "copy.mrl"), list[Any]()
    assert import_rows(copy, url, progress=seen.append).written == 600
    assert held(copy) == held(full)
    assert seen[-1].done == seen[-1].total
    before = dict(bucket.objects)
    with pytest.raises(StoreExists, match="exists; overwrite=True replaces it"):
        export_rows(full, url)
    assert export_rows(full, url, limit=5, overwrite=True).rows == 5
    assert bucket.objects != before


def test_nothing_is_written_where_the_export_fails(bucket: MemoryStorage, full: mrlstore.Store) -> None:
    for target, options in (
        ("s3://bucket/folder/rows.csv", {}),
        ("s3://bucket/folder/rows.jsonl", {"dtype": "float16"}),
        ("s3://bucket", {}),
    ):
        with pytest.raises(InvalidInput):
            export_rows(full, target, **options)  # type: ignore[arg-type]

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_rows(full, "s3://bucket/folder/rows.jsonl", progress=stop)
    assert bucket.objects == {}


def test_objects_that_are_absent_cut_or_elsewhere(bucket: MemoryStorage, full: mrlstore.Store) -> None:
    with pytest.raises(ObjectNotFound, match="s3://bucket/folder/none.jsonl"):
        import_rows(full, "s3://bucket/folder/none.jsonl")
    bucket.objects["cut.jsonl.gz"] = gzip.compress(b'{"id": "a"}\n' * 1000)[:-5]
    with pytest.raises(InvalidInput, match="no whole gzip file"):
        import_rows(full, "s3://bucket/folder/cut.jsonl.gz")
    bucket.objects["rows.jsonl"] = b'{"id": "a"}\n'
    with pytest.raises(InvalidInput, match="a .npy file must be on this machine"):
        import_rows(full, "s3://bucket/folder/rows.jsonl", vectors="s3://bucket/folder/v.npy")


def test_a_large_object_is_read_in_pieces(
    bucket: MemoryStorage, store: mrlstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside.OBJECT_FILES_PIECE, 1000)
    lines = b"".join(b'{"id": "%d", "document": "%s"}\n' % (n, b"x" * 50) for n in range(500))
    bucket.objects["rows.jsonl"] = lines
    lengths: list[int] = []
    whole = bucket.get_range

    def counted(name: str, start: int, length: int) -> bytes:
        lengths.append(length)
        return whole(name, start, length)

    monkeypatch.setattr(bucket, "get_range", counted)
    assert import_rows(store, "s3://bucket/folder/rows.jsonl").written == 500
    assert sum(lengths) == len(lines) and max(lengths) <= 1000


def test_the_command_line_takes_urls(
    full: mrlstore.Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder by its file:// URL stands for a bucket."""
    (tmp_path / "there").mkdir()
    url = f"file://{tmp_path}/there/rows.jsonl.gz"
    assert main(["export", str(full.path), url]) == 0
    assert f"Exported 600 rows to {url} in" in capsys.readouterr().out
    assert main(["export", str(full.path), url]) == 4
    assert "--force replaces it" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "copy.mrl"), url]) == 0
    assert "Imported 600 rows" in capsys.readouterr().out
    assert main(["import", str(tmp_path / "other.mrl"), "s3://bucket/papers/rows.xyz"]) == 2
    assert not (tmp_path / "other.mrl").exists()
