"""Ways to damage a store's files, and the child that opens each damaged copy and says what happened."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import mrlstore
from mrlstore.maintenance import steps
from tests import inside
from tests.children import Pipe
from tests.oracle import nested_vectors

DIM, PREFIX = 8, 4
QUERIES = nested_vectors(4, DIM, seed=50)
GOT = [f"r{i}" for i in range(0, 2020, 20)] + ["flat7", "flat10", "tail3", "r5"]
ADDRESS_SPACE = 3 << 30  # bytes; a length taken from a damaged file unchecked goes far beyond


@dataclass(frozen=True)
class Damage:
    """One change to one file of a store (or to two, when they are swapped)."""

    kind: str
    file: str  # relative to the store's folder
    offset: int = 0
    value: int = 0
    other: str = ""

    def inflict(self, store: Path) -> None:
        """Change the copy; the file is a private one, not a hard link."""
        path = store / self.file
        if self.kind == "missing":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif self.kind == "folder":
            path.unlink()
            path.mkdir()
        elif self.kind == "swap":
            other = store / self.other
            mine, theirs = path.read_bytes(), other.read_bytes()
            path.write_bytes(theirs)
            other.write_bytes(mine)
        elif self.kind == "json":
            path.write_bytes(PART_JSONS[self.value])
        else:
            data = bytearray(path.read_bytes())
            if self.kind == "flip":
                data[self.offset] ^= 1 << self.value
            elif self.kind == "byte":
                data[self.offset] = self.value
            elif self.kind == "truncate":
                del data[self.offset :]
            elif self.kind == "extend":
                data += bytes(self.value for _ in range(self.offset))
            elif self.kind == "zero":
                data[self.offset : self.offset + 4096] = bytes(len(data[self.offset : self.offset + 4096]))
            else:
                raise AssertionError(self.kind)
            path.write_bytes(data)

    def touched(self) -> list[str]:
        """Files that need a private copy before."""
        return [self.file, self.other] if self.other else [self.file]


PART_JSONS = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"0",
    b'"text"',
    b"{",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"\xff\xfe\x00",
    b'{"kind":"base","format_version":999999999999999999999}',
    b"1" * 10_000,
    b'{"files":{}}',
    b"NaN",
]


def build_template(path: Path) -> None:
    """A closed store with everything in it: graphs, flat segment, columns, dead rows, tail, namespaces."""
    with mrlstore.open(path, dim=DIM, prefix_dim=PREFIX, auto_maintain=False) as store:
        ids = [f"r{i}" for i in range(2020)]
        documents = [f"text {i}" if i % 3 else None for i in range(2020)]
        store.upsert(ids, nested_vectors(2020, DIM), [metadata(i) for i in range(2020)], documents)
        store.upsert([f"t{i}" for i in range(40)], nested_vectors(40, DIM, seed=2), namespace="tenant")
        store.optimize()
        store.delete(ids[:15])
        rows = [None if i % 10 == 0 else row for i, row in enumerate(nested_vectors(90, DIM, seed=3))]
        store.upsert([f"flat{i}" for i in range(90)], rows, [metadata(i) for i in range(90)])
        steps.flush(inside.session(store))
        tail = [f"tail{i}" for i in range(30)]
        store.upsert(tail, nested_vectors(30, DIM, seed=4), [metadata(i) for i in range(30)], ["text"] * 30)


def metadata(i: int) -> dict[str, Any] | None:
    """A few types, some rows without."""
    return None if i % 13 == 0 else {"n": i, "c": "abc"[i % 3], "l": [i % 5], "d": {"e": i % 2 == 0}}


def questions(store: Any) -> dict[str, Callable[[], Any]]:
    """What a user may ask, in every way there is."""
    asked: dict[str, Callable[[], Any]] = {
        "rows": lambda: [
            (record.namespace, record.id, json.dumps(record.metadata), record.document)
            for record in store.scan(namespace=None)
        ],
        "len": lambda: len(store),
        "namespaces": store.namespaces,
        "get": lambda: [
            (record.id, record.metadata, None if record.vector is None else record.vector.tobytes())
            for record in store.get(GOT, include=("metadata", "vector"))
        ],
        "counts": lambda: [
            store.count(w) for w in ({"c": "a"}, {"n": {"$lt": 500}}, {"l": 2}, {"d.e": True})
        ],
        "filtered": lambda: [record.id for record in store.scan({"c": "b", "n": {"$gt": 1900}})],
        "keywords": lambda: [(hit.id, hit.score) for hit in store.query(keywords="text", k=50)],
        "every score": lambda: _scores(store, QUERIES[0], k=3000, include=()),
    }
    for i, query in enumerate(QUERIES):
        space, where = "tenant" if i == 3 else "", {"c": "a", "n": {"$lt": 300}}
        asked[f"exact{i}"] = partial(_scores, store, query, k=30, namespace=space)
        asked[f"where{i}"] = partial(_scores, store, query, k=30, where=where)
    return asked


def _scores(store: Any, query: Any, **options: Any) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in store.query(query, exact=True, **options)]


def answers(store: Any) -> dict[str, Any]:
    """What a user sees, by every way of asking; equal dicts mean right answers."""
    return {name: ask() for name, ask in questions(store).items()}


def approximate_is_sound(store: Any, truth: dict[str, Any]) -> bool:
    """Damage to a graph may cost recall; what comes back are still k live rows with their true scores."""
    for i, query in enumerate(QUERIES[:3]):
        everything = dict(truth[f"all{i}"])
        found = store.query(query, k=10)
        if len(found) != 10 or any(everything.get(hit.id) != hit.score for hit in found):
            return False
    return True


def full_truth(store: Any) -> dict[str, Any]:
    """The answers of the whole template, and the score of every row for the approximate ways."""
    truth = answers(store)
    for i, query in enumerate(QUERIES[:3]):
        truth[f"all{i}"] = [(hit.id, hit.score) for hit in store.query(query, k=10_000, exact=True)]
    return truth


def copy_store(template: Path, target: Path, private: list[str]) -> None:
    """Hard links for what is not changed, copies for what is and for SQLite's files."""
    shutil.copytree(template, target, copy_function=os.link)
    for name in {*private, "catalogue.db", "catalogue.db-wal", "catalogue.db-shm"}:
        source, copied = template / name, target / name
        if source.is_file():
            copied.unlink()
            shutil.copyfile(source, copied)


def outcome(store_path: Path, truth: dict[str, Any]) -> dict[str, str]:
    """Open the damaged copy and use it: what it answered, and what verify says."""
    said: dict[str, str] = {}
    try:
        with mrlstore.open(store_path, auto_maintain=False) as store:
            now = answers(store)
            differs = [key for key in now if now[key] != truth[key]]
            sound = approximate_is_sound(store, truth)
        said["answers"] = "right" if not differs and sound else f"wrong: {differs or 'approximate'}"
    except mrlstore.MrlStoreError as error:
        said["answers"] = f"typed: {type(error).__name__}"
    except BaseException as error:
        said["answers"] = f"untyped: {type(error).__name__}: {str(error)[:200]}"
    try:
        with mrlstore.open(store_path, auto_maintain=False) as store:
            report = store.verify()
        said["verify"] = "ok" if report.ok else "found"
    except mrlstore.MrlStoreError as error:
        said["verify"] = f"found: {type(error).__name__}"
    except BaseException as error:
        said["verify"] = f"untyped: {type(error).__name__}: {str(error)[:200]}"
    return said


def survive(pipe: Pipe, template: str, work: str, damages: list[Damage]) -> None:
    """Inflict each damage on a fresh copy, use it under a memory limit, and report."""
    warnings.simplefilter("ignore", mrlstore.DamagedPartWarning)
    source = Path(template)
    with mrlstore.open(source, mode="r") as store:
        truth = full_truth(store)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    for number, damage in enumerate(damages):
        pipe.send(("trying", damage))
        target = Path(work) / f"copy{number}"
        copy_store(source, target, damage.touched())
        damage.inflict(target)
        pipe.send(("said", outcome(target, truth)))
        shutil.rmtree(target)
    pipe.send(("end", None))


def files_of(store: Path) -> list[str]:
    """Every file of the store's parts, relative."""
    return sorted(str(p.relative_to(store)) for p in (store / "parts").rglob("*") if p.is_file())


def flips(store: Path, names: list[str], count: int, seed: int) -> list[Damage]:
    """Single bits: every file's first and last bytes get their share, the rest falls anywhere."""
    rng = random.Random(seed)
    damages = []
    for number in range(count):
        name = names[number % len(names)]
        size = (store / name).stat().st_size
        spot = rng.choice(["anywhere", "anywhere", "head", "end"])
        low, high = {"anywhere": (0, size), "head": (0, min(size, 160)), "end": (max(0, size - 64), size)}[
            spot
        ]
        if low < high:
            damages.append(Damage("flip", name, rng.randrange(low, high), rng.randrange(8)))
    return damages


def rough(store: Path, names: list[str], seed: int) -> list[Damage]:
    """Truncation, growth, zeroed pages, missing and replaced files: each kind for each file."""
    rng = random.Random(seed)
    damages = []
    for name in names:
        size = (store / name).stat().st_size
        damages += [Damage("missing", name), Damage("folder", name), Damage("truncate", name, 0)]
        damages += [
            Damage("truncate", name, cut) for cut in {size - 1, size // 2, rng.randrange(size)} if cut > 0
        ]
        damages += [Damage("extend", name, 1), Damage("extend", name, 4096, 0xFF)]
        start = rng.randrange(0, max(1, size // 4096)) * 4096
        with contextlib.suppress(OSError):
            chunk = np.frombuffer((store / name).read_bytes()[start : start + 4096], dtype=np.uint8)
            if chunk.any():
                damages.append(Damage("zero", name, start))
    return damages


def swaps(store: Path, names: list[str]) -> list[Damage]:
    """Files of the same name in two parts, and neighbours within a part, exchanged where they differ."""
    damages = []
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            alike = Path(name).name == Path(other).name or Path(name).parent == Path(other).parent
            if alike and (store / name).read_bytes() != (store / other).read_bytes():
                damages.append(Damage("swap", name, other=other))
    return damages
