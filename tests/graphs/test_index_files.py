"""Index files of hnswlib: written, read without it, and searched by it in another process only.

`index.bin` was made by hnswlib 0.8.0 on Linux, x86-64: 120 rows of 6 dims in the space "cosine", M=4, with
labels in another order than the rows, of which label 7 is marked as deleted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.errors import InvalidInput, OriginError
from mrlstore.exchange.migrate import Choice, migrate, open_origin
from mrlstore.exchange.migrate.hnswlib_process import HnswlibProcess
from mrlstore.index.hnsw_file import open_hnsw_file
from tests import inside
from tests.fuzz.files import opened_hnsw_index
from tests.graphs.conftest import DIM, ROWS
from tests.nested import nested

INDEX = Path(__file__).with_name("index.bin")
HEADER, RECORD, LINKS = 96, 4 + 4 * 8 + 4 * 6 + 8, 8


def expected() -> Any:
    """The rows of `index.bin` by label, of unit length."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(120, 6)).astype(np.float32)
    labels = rng.permutation(120)
    return rows[np.argsort(labels)] / np.linalg.norm(rows, axis=1)[np.argsort(labels), None]


def ids_of(folder: Path, count: int = 120) -> Path:
    (folder / "ids.txt").write_text("".join(f"paper {i}\n" for i in range(count)), encoding="utf-8")
    return folder / "ids.txt"


@pytest.mark.parametrize("there", [True, False])
def test_an_index_moves_in(there: bool, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("hnswlib" if there else "without_hnswlib")
    done = migrate(tmp_path / "s.mrl", f"hnswlib:{INDEX}", choice=Choice(ids=ids_of(tmp_path)), batch=50)
    assert done.ok and done.rows == 119
    assert done.warnings == ("'index.bin': 1 rows that are marked as deleted are left out",)
    (checked,) = done.collections
    assert (checked.compared, checked.asked) == (100, 20 if there else 0)
    assert checked.agreed == (1.0 if there else None)
    with mrlstore.open(tmp_path / "s.mrl", mode="r") as store:
        assert store.get(["paper 7"]) == []
        for label in (0, 6, 8, 119):
            (record,) = store.get([f"paper {label}"], include=("vector",))
            assert record.vector == pytest.approx(expected()[label], abs=1e-3)


def test_ids_are_labels_unless_given(tmp_path: Path) -> None:
    done = migrate(tmp_path / "s.mrl", f"hnswlib:{INDEX}")
    with mrlstore.open(tmp_path / "s.mrl", mode="r") as store:
        assert done.ok and {record.id for record in store.scan()} == {str(i) for i in range(120) if i != 7}
    for count in (119, 121):
        with pytest.raises(InvalidInput, match=f"{count} ids for labels up to 119"):
            migrate(tmp_path / "new.mrl", f"hnswlib:{INDEX}", choice=Choice(ids=ids_of(tmp_path, count)))
    assert not (tmp_path / "new.mrl").exists()
    with pytest.raises(InvalidInput, match="no such file"):
        migrate(tmp_path / "new.mrl", f"hnswlib:{tmp_path / 'absent.bin'}")


def changed(tmp_path: Path, at: int, value: bytes) -> Path:
    data = bytearray(INDEX.read_bytes())
    data[at : at + len(value)] = value
    (tmp_path / "changed.bin").write_bytes(data)
    return tmp_path / "changed.bin"


FIRST_LIST = HEADER + 4
FIRST_LABEL = HEADER + RECORD - 8
FAR = (120).to_bytes(4, "little")
WRONG = {
    "a header of zeros": (0, bytes(HEADER)),
    "a capacity below its rows": (8, (3).to_bytes(8, "little")),
    "more rows than bytes": (8, (10**12).to_bytes(8, "little") * 2),
    "other records": (24, (RECORD + 4).to_bytes(8, "little")),
    "too many dims": (24, (4 + 32 + 40_000 + 8).to_bytes(8, "little") + (36 + 40_000).to_bytes(8, "little")),
    "a high top layer": (48, (60).to_bytes(4, "little")),
    "an entry that is no row": (52, FAR),
    "no links": (64, bytes(8)),
    "a list that is too long": (HEADER, (9).to_bytes(2, "little")),
    "a link to no row": (FIRST_LIST, FAR),
    "a label twice": (FIRST_LABEL, INDEX.read_bytes()[FIRST_LABEL + RECORD : FIRST_LABEL + RECORD + 8]),
    "upper layers of no length": (HEADER + 120 * RECORD, (7).to_bytes(4, "little")),
}


@pytest.mark.parametrize("what", WRONG)
def test_damage_is_refused_before_anything_is_made(what: str, tmp_path: Path) -> None:
    path = changed(tmp_path, *WRONG[what])
    with pytest.raises(InvalidInput, match="no index file of hnswlib, or a damaged one"):
        migrate(tmp_path / "s.mrl", f"hnswlib:{path}")
    assert not (tmp_path / "s.mrl").exists()


def test_files_that_are_cut_short_or_longer(tmp_path: Path) -> None:
    whole, path = INDEX.read_bytes(), tmp_path / "cut.bin"
    for length in [0, 1, 95, 96, *range(97, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidInput, match="damaged"):
            open_hnsw_file(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(InvalidInput, match="behind the last row"):
        open_hnsw_file(path)


def test_links_of_upper_layers_are_looked_at(tmp_path: Path) -> None:
    """Hnswlib follows such a link into memory that is not its own."""
    whole = INDEX.read_bytes()
    at = HEADER + 120 * RECORD
    levels = []
    while at < len(whole):
        length = int.from_bytes(whole[at : at + 4], "little")
        levels.append((length, at + 4))
        at += 4 + length
    lowest = next(row for row, (length, _) in enumerate(levels) if not length)
    start = next(start for length, start in levels if length and whole[start])
    for target in (lowest, 5_000):
        path = changed(tmp_path, start + 4, target.to_bytes(4, "little"))
        with pytest.raises(InvalidInput, match="an upper layer with links"):
            open_hnsw_file(path)
    with pytest.raises(InvalidInput, match="more links than it has room for"):
        open_hnsw_file(changed(tmp_path, start, b"\xff"))


def test_flipped_bits_give_rows_or_a_typed_error(tmp_path: Path) -> None:
    whole, rng, refused = INDEX.read_bytes(), np.random.default_rng(3), 0
    places = [*range(HEADER), *rng.integers(HEADER, len(whole), 400).tolist()]
    for at in places:
        path = changed(tmp_path, at, bytes([whole[at] ^ (1 << int(rng.integers(8)))]))
        opened_hnsw_index(path.read_bytes())
        try:
            open_hnsw_file(path)
        except InvalidInput:
            refused += 1
    assert 200 < refused < len(places)  # flipped bits of vectors, and of most labels, cannot be seen


ENDS = {
    "import os, signal; input(); os.kill(os.getpid(), signal.SIGSEGV)": "ended by SIGSEGV",
    "import sys; sys.exit(3)": "ended with exit code 3",
    'input(); print(\'{"error": "out of luck"}\'); input()': "hnswlib: out of luck",
    "import time; time.sleep(60)": "no answer within 0.5 s",
}


@pytest.mark.parametrize("program", ENDS)
def test_a_process_that_dies_is_an_error_here(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in program:
        monkeypatch.setattr(inside.HNSWLIB_ANSWER_S, 0.5)
    (tmp_path / "program.py").write_text(program)
    process = HnswlibProcess(open_hnsw_file(INDEX), tmp_path / "program.py")
    try:
        with pytest.raises(OriginError, match=ENDS[program]):
            process.search(expected()[0], 3)
    finally:
        process.close()


@pytest.mark.usefixtures("hnswlib")
def test_hnswlib_dies_and_the_migration_goes_on_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "index.bin"
    path.write_bytes(INDEX.read_bytes())

    class Damaging(HnswlibProcess):
        """The file is damaged after it was checked, so that hnswlib follows a link to nowhere."""

        def __init__(self, *arguments: Any) -> None:
            data = bytearray(path.read_bytes())
            for row in range(120):
                start = HEADER + row * RECORD + 4
                data[start : start + 4 * LINKS] = b"\xf0\xff\xff\xff" * LINKS
            path.write_bytes(data)
            super().__init__(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("mrlstore.exchange.migrate.hnswlib_index.HnswlibProcess", Damaging)
        with pytest.raises(OriginError, match="ended by SIGSEGV: the file is damaged"):
            migrate(tmp_path / "s.mrl", f"hnswlib:{path}")
    path.write_bytes(INDEX.read_bytes())
    assert migrate(tmp_path / "s.mrl", f"hnswlib:{path}").ok


def test_the_child_is_gone_after_a_migration(hnswlib: Any) -> None:
    origin: Any = open_origin(f"hnswlib:{INDEX}")
    (collection,) = origin.collections()
    assert origin.ask(collection, expected()[3], 1) == ["3"]
    child = inside.hnswlib_child(origin)
    origin.close()
    assert child.returncode == 0


def test_a_store_goes_out_and_comes_back(hnswlib: Any, filled: Path, tmp_path: Path) -> None:
    rows = nested(ROWS, DIM)
    with mrlstore.open(filled, auto_maintain=False) as store:
        store.delete([str(i) for i in range(100)])
        store.upsert(["in the tail", "é\u2028 ü"], nested(2, DIM, seed=9), namespace="other")
        done = store.export_hnswlib(tmp_path / "index.bin")
        assert done == mrlstore.HnswlibFiles(
            ROWS - 98, str(tmp_path / "index.bin"), str(tmp_path / "index.ids.txt")
        )
        index = hnswlib.Index("cosine", DIM)
        index.load_index(done.index)
        ids = Path(done.ids).read_text(encoding="utf-8").split("\n")[:-1]
        labels, distances = index.knn_query(rows[150:160], k=1)
        assert [ids[label] for label in labels[:, 0]] == [str(i) for i in range(150, 160)]
        assert distances.max() < 1e-3
        moved = migrate(tmp_path / "back.mrl", f"hnswlib:{done.index}", choice=Choice(ids=Path(done.ids)))
        assert moved.ok and moved.rows == done.rows
        with mrlstore.open(tmp_path / "back.mrl", auto_maintain=False) as back:
            ours = store.query(rows[200], include=(), exact=True)
            theirs = back.query(rows[200], include=(), exact=True)
            assert theirs.scores == pytest.approx(ours.scores, abs=2e-3)
        seen: list[mrlstore.Progress] = []
        names = tmp_path / "other.txt"
        one = store.export_hnswlib(done.index, names, namespace="other", overwrite=True, progress=seen.append)
        assert (one.rows, seen[-1].done, one.ids) == (2, 2, str(names))
        assert sorted(names.read_text(encoding="utf-8").split("\n")) == ["", "in the tail", "é\u2028 ü"]


def test_what_cannot_go_out(hnswlib: Any, filled: Path, tmp_path: Path) -> None:
    target, one = tmp_path / "index.bin", nested(1, DIM)
    with mrlstore.open(filled, auto_maintain=False) as store:
        for namespace, id, words in (("a", "x\ny", "line break"), ("b", "1", "in several namespaces")):
            store.upsert([id], one, namespace=namespace)
            with pytest.raises(InvalidInput, match=words):
                store.export_hnswlib(target)
            store.clear(namespace)
        with pytest.raises(InvalidInput, match="namespace 'empty' has no rows"):
            store.export_hnswlib(target, namespace="empty")
        with pytest.raises(InvalidInput, match="inside the store"):
            store.export_hnswlib(filled / "index.bin")
        with pytest.raises(InvalidInput, match="both"):
            store.export_hnswlib(target, target)
        with pytest.raises(InvalidInput, match="ids: expected a path"):
            store.export_hnswlib(target, 3)  # type: ignore[arg-type]
        with pytest.raises(FileNotFoundError):
            store.export_hnswlib(tmp_path / "absent" / "index.bin")
        (tmp_path / "index.ids.txt").write_text("mine")
        with pytest.raises(mrlstore.StoreExists):
            store.export_hnswlib(target)

        class Stop(Exception):
            pass

        def stop(step: mrlstore.Progress) -> None:
            raise Stop

        with pytest.raises(Stop):
            store.export_hnswlib(target, overwrite=True, progress=stop)
    assert (tmp_path / "index.ids.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"s.mrl", "index.ids.txt"}


def test_a_disk_that_is_full_is_noticed(hnswlib: Any, filled: Path, tmp_path: Path) -> None:
    """Hnswlib itself does not say that it could not write."""
    import subprocess

    program = f"""
import resource, signal, mrlstore
store = mrlstore.open({str(filled)!r}, mode="r")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.export_hnswlib({str(tmp_path / "index.bin")!r})
except mrlstore.StorageError as error:
    print("refused:", error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("refused: "), done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"s.mrl"}


def test_the_command_lines(
    hnswlib: Any, filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mrlstore.cli import main

    target, ids = tmp_path / "index.bin", tmp_path / "index.ids.txt"
    assert main(["export-hnswlib", str(filled), str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == ROWS
    assert main(["export-hnswlib", str(filled), str(target)]) == 4
    assert main(["export-hnswlib", str(filled), str(target), "--force"]) == 0
    assert f"Exported {ROWS:,} rows to {target}" in capsys.readouterr().out
    assert main(["migrate", str(tmp_path / "n.mrl"), f"hnswlib:{target}", "--ids", str(ids)]) == 0
