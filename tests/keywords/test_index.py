"""The keyword index follows every change of the rows, in the transaction of the change."""

from __future__ import annotations

from pathlib import Path

import apsw
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import mrlstore
from mrlstore.catalogue import keywords
from mrlstore.writing import writer
from tests import inside
from tests.keywords.corpus import DIM, WORDS, bm25, documents, vectors


def ids_with(store: mrlstore.Store, words: str, **options: object) -> set[str]:
    return set(store.query(keywords=words, k=1000, include=(), **options).ids)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> mrlstore.Store:
    return mrlstore.open(tmp_path / "s.mrl", auto_maintain=False)


def test_every_change_of_a_document_is_followed(store: mrlstore.Store) -> None:
    store.upsert(["a", "b", "c"], vectors(3), None, ["red apple", "green apple", None])
    assert ids_with(store, "apple") == {"a", "b"}
    store.upsert(["a"], vectors(1), None, ["blue plum"])
    assert ids_with(store, "apple") == {"b"}
    store.update(["c"], documents=["an apple too"])
    assert ids_with(store, "apple") == {"b", "c"}
    store.update(["b"], [{"n": 1}])
    assert ids_with(store, "apple") == {"b", "c"}
    store.upsert(["b", "d"], vectors(2), None, ["cherry", "apple"], on_conflict="skip")
    assert ids_with(store, "apple") == {"b", "c", "d"}
    assert ids_with(store, "cherry") == set()
    store.delete(["b"])
    assert ids_with(store, "apple") == {"c", "d"}
    store.upsert(["c"], vectors(1))
    assert ids_with(store, "apple") == {"d"}
    store.upsert(["e"], None, None, ["an apple without a vector"], namespace="other")
    assert ids_with(store, "apple") == {"d"}
    assert ids_with(store, "apple", namespace="other") == {"e"}
    store.clear()
    assert ids_with(store, "apple plum") == set()
    assert store.verify().ok
    assert ids_with(store, "apple", namespace="other") == {"e"}


def test_a_failed_write_leaves_the_index_as_it_was(store: mrlstore.Store) -> None:
    store.upsert(["a"], vectors(1), None, ["apple"])
    with pytest.raises(mrlstore.InvalidInput):
        store.upsert(["b", "a"], vectors(2), None, ["plum", "plum"], on_conflict="error")
    assert ids_with(store, "plum") == set()
    assert store.verify().ok


def test_sealing_merging_and_indexing_change_nothing(store: mrlstore.Store) -> None:
    texts = documents(5000)
    names = [f"r{n}" for n in range(5000)]
    store.upsert(names, vectors(5000), None, texts)  # a base part of its own
    store.upsert(names[:50], vectors(50), None, texts[:50])
    before = store.query(keywords="quince kiwi", k=50)
    store.optimize()
    after = store.query(keywords="quince kiwi", k=50)
    assert [(hit.id, hit.score) for hit in after] == [(hit.id, hit.score) for hit in before]
    assert store.verify().ok


def test_verify_after_another_connection_has_merged_the_index(store: mrlstore.Store) -> None:
    """FTS5 remembers the index's pieces, and its check looks for those."""
    for n in range(10):
        store.upsert([f"r{n}"], None, None, [f"word{n} same"])
        assert store.verify().ok
    store.optimize()
    report = store.verify()
    assert report.ok, report.problems


def test_optimize_makes_the_index_one_piece_and_smaller(store: mrlstore.Store) -> None:
    texts = documents(1000)
    for at in range(0, 1000, 20):
        names = [f"r{n % 300}" for n in range(at, at + 20)]
        store.upsert(names, None, None, [f"{text} nr{at}" for text in texts[at : at + 20]])
    before = store.query(keywords="quince nr980", k=50)
    read = inside.session(store).catalogue.read
    with read() as connection:
        assert keywords.is_fragmented(connection)
    store.optimize()
    with read() as connection:
        assert not keywords.is_fragmented(connection)
    after = store.query(keywords="quince nr980", k=50)
    assert [(hit.id, hit.score) for hit in after] == [(hit.id, hit.score) for hit in before]
    generation = store.stats().generation
    store.optimize()
    assert store.stats().generation == generation and store.verify().ok


def test_scores_are_those_of_the_formula_and_ties_go_by_key(store: mrlstore.Store) -> None:
    texts = dict(zip((f"r{n}" for n in range(300)), documents(300), strict=True))
    store.upsert(list(texts), vectors(300), None, list(texts.values()))
    store.delete(["r7", "r8"])
    store.upsert(["r9"], vectors(1), None, ["fig fig fig"])
    for gone in ("r7", "r8", "r9"):
        del texts[gone]
    texts["r9"] = "fig fig fig"  # written last: its key is the greatest
    for words in (["fig"], ["apple", "melon"], ["grape", "kiwi", "date"]):
        expected = bm25(texts, words)
        found = store.query(keywords=" ".join(words), k=1000)
        assert {hit.id: hit.score for hit in found} == pytest.approx(expected, rel=1e-9)
        order = {name: place for place, name in enumerate(texts)}
        scores = [(-hit.score, order[hit.id]) for hit in found]
        assert scores == sorted(scores)


def test_a_backup_has_its_keywords(store: mrlstore.Store, tmp_path: Path) -> None:
    store.upsert(["a", "b"], vectors(2), None, ["red apple", "green pear"])
    store.backup(tmp_path / "copy.mrl")
    with mrlstore.open(tmp_path / "copy.mrl", mode="r") as copy:
        assert ids_with(copy, "apple") == {"a"}
        assert copy.verify().ok


@pytest.mark.parametrize(
    ("tokenizer", "document", "hits", "misses"),
    [
        ("unicode61", "Un café près de Köln", ["cafe", "CAFÉ", "pres", "koln"], ["caf", "près de Bonn "[9:]]),
        ("porter", "He was running tests", ["run", "tested", "runs"], ["runner"]),
        ("trigram", "東京都は日本の首都です", ["日本の", "東京都", "首都で"], ["大阪府", "日本"]),
    ],
)
def test_tokenizers(
    tmp_path: Path, tokenizer: str, document: str, hits: list[str], misses: list[str]
) -> None:
    path = tmp_path / "s.mrl"
    with mrlstore.open(path, tokenizer=tokenizer, auto_maintain=False) as store:  # type: ignore[arg-type]
        store.upsert(["a", "b"], None, None, [document, "something else"])
        for words in hits:
            assert ids_with(store, words) == {"a"}, words
        for words in misses:
            assert ids_with(store, words) == set(), words
        assert store.verify().ok
    with mrlstore.open(path, mode="r") as store:
        assert store.settings.tokenizer == tokenizer
    other = "porter" if tokenizer != "porter" else "trigram"
    with pytest.raises(mrlstore.InvalidInput, match="tokenizer"):
        mrlstore.open(path, tokenizer=other)  # type: ignore[arg-type]
    with pytest.raises(mrlstore.InvalidInput, match="tokenizer"):
        mrlstore.open(path, tokenizer="icu")  # type: ignore[arg-type]


def damage_index(path: Path, statement: str) -> None:
    connection = apsw.Connection(str(path / "catalogue.db"))
    connection.execute(statement)
    connection.close()


DAMAGES = [
    "DELETE FROM keywords WHERE rowid = 1",
    "INSERT INTO keywords(rowid, document) VALUES (999, 'a row that is not there')",
    "DELETE FROM keywords WHERE rowid = 1; INSERT INTO keywords(rowid, document) VALUES (1, 'other words')",
    "UPDATE keywords_data SET block = zeroblob(40) WHERE id > 10",
    "UPDATE keywords_data SET block = x'00' WHERE id = 10",
    "DELETE FROM keywords_data",
    "DELETE FROM keywords_docsize WHERE id = 2",
    "DROP TABLE keywords",
]


@pytest.mark.parametrize("statement", DAMAGES)
def test_damage_is_found_and_mended_and_costs_no_row(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "s.mrl"
    with mrlstore.open(path, auto_maintain=False) as store:
        store.upsert(["a", "b", "c"], vectors(3), [{"n": n} for n in range(3)], ["apple", "pear", "plum"])
        rows = [(row.id, row.metadata, row.document) for row in store.scan()]
    damage_index(path, statement)
    with mrlstore.open(path, auto_maintain=False) as store:
        report = store.verify()
        assert not report.ok
        assert all("repair()" in problem.remedy for problem in report.problems), report.problems
        assert len(store.query(vectors(1)[0])) == 3
        try:
            store.query(keywords="apple")
            store.upsert(["a"], vectors(1), [{"n": 0}], ["apple"])
        except mrlstore.CorruptStore:
            pass  # told, not hidden; and the store can still be used:
        assert len(store.query(vectors(1)[0])) == 3
        repaired = store.repair()
        assert repaired.ok and not repaired.lost
        assert [(row.id, row.metadata, row.document) for row in store.scan()] == rows
        assert ids_with(store, "apple") == {"a"}
        store.upsert(["a"], vectors(1), None, ["cherry"])
        assert ids_with(store, "apple cherry") == {"a"}
        assert store.verify().ok


class Changes(RuleBasedStateMachine):
    """Any order of changes, against a dict; BM25 is compared score by score."""

    names = st.sampled_from([f"id{n}" for n in range(8)])
    texts = st.none() | st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.store = mrlstore.open(Path(self.folder.name) / "s.mrl", dim=DIM, auto_maintain=False)
        self.known: dict[str, str | None] = {}

    @rule(rows=st.dictionaries(names, texts, min_size=1, max_size=5), bare=st.booleans())
    def upsert(self, rows: dict[str, str | None], bare: bool) -> None:
        numbers = None if bare else vectors(len(rows))
        self.store.upsert(list(rows), numbers, None, list(rows.values()))
        self.known |= rows

    @rule(name=names, text=texts)
    def update(self, name: str, text: str | None) -> None:
        self.store.update([name], [{"x": 1}], [text])
        if name in self.known and text is not None:
            self.known[name] = text

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.store.delete([name])
        self.known.pop(name, None)

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.known = {}

    @rule()
    def optimize(self) -> None:
        self.store.optimize()

    @invariant()
    def the_index_says_what_the_documents_say(self) -> None:
        if not hasattr(self, "store"):
            return
        texts = {name: text for name, text in self.known.items() if text}
        for words in (["apple"], ["pear", "fig"]):
            expected = bm25(texts, words) if texts else {}
            found = self.store.query(keywords=" ".join(words), k=100, include=())
            assert {hit.id: hit.score for hit in found} == pytest.approx(expected, rel=1e-9)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            assert self.store.verify().ok
            self.store.close()
            self.folder.cleanup()


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)


def test_a_big_update_moves_the_words_with_the_rows(
    store: mrlstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BIG_BATCH", 50)
    names = [f"r{n}" for n in range(200)]
    store.upsert(names, vectors(200), [{"n": n} for n in range(200)], [f"word{n} apple" for n in range(200)])
    assert store.update(where={"n": {"$lt": 100}}, metadatas={"old": True}) == 100
    assert ids_with(store, "word7 word150") == {"r7", "r150"}
    assert len(ids_with(store, "apple", where={"old": True})) == 100
    assert store.verify().ok
    assert np.all(store.query(keywords="word7").scores > 0)
