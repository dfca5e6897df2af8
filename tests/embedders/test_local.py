"""The local embedder: nested, unit rows, reproducible, saved without pickle, honest about what it lacks."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mrlstore.embedders import Embedder
from mrlstore.embedders.local import LocalEmbedder, NoKnownWord, words_of
from mrlstore.errors import CorruptStore, EmbedError, InvalidInput

TOPICS = {
    "cooking": ["bread", "oven", "flour", "butter", "sugar", "salt", "dough", "kitchen", "recipe"],
    "sailing": ["boat", "sail", "wind", "harbour", "anchor", "rope", "mast", "captain", "wave"],
    "music": ["violin", "piano", "melody", "rhythm", "orchestra", "concert", "song", "chord", "drum"],
}


def make_texts(count: int, seed: int = 0) -> list[tuple[str, str]]:
    rng = np.random.default_rng(seed)
    names = list(TOPICS)
    topics = [names[place % 3] for place in range(count)]
    return [(topic, " ".join(rng.choice(TOPICS[topic], 6))) for topic in topics]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [text for _, text in make_texts(90)]


@pytest.fixture(scope="module")
def embedder(texts: list[str]) -> LocalEmbedder:
    return LocalEmbedder.fit(texts, dim=20)


def test_it_is_an_embedder(embedder: LocalEmbedder) -> None:
    assert isinstance(embedder, Embedder)
    assert isinstance(embedder.fingerprint, str)


def test_rows_have_length_one_and_the_asked_dims(embedder: LocalEmbedder, texts: list[str]) -> None:
    vectors = embedder.embed_documents(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (90, 20)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_question_is_embedded_like_a_text(embedder: LocalEmbedder, texts: list[str]) -> None:
    np.testing.assert_array_equal(embedder.embed_query(texts[3]), embedder.embed_documents(texts[3:4])[0])


def test_it_agrees_with_a_plain_singular_value_decomposition(texts: list[str]) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    embedder = LocalEmbedder.fit(texts, dim=8)
    table = TfidfVectorizer(analyzer=words_of, sublinear_tf=True).fit_transform(texts).toarray()
    left, strengths, _ = np.linalg.svd(table)
    expected = left[:, :8] * strengths[:8]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = embedder.embed_documents(texts)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-3)


def test_dimensions_come_in_the_order_of_their_importance(texts: list[str]) -> None:
    long, short = LocalEmbedder.fit(texts, dim=20), LocalEmbedder.fit(texts, dim=5)
    weighed = [long.weigh(text) for text in texts]
    projected = [one.weights @ long.directions[one.columns] for one in weighed]
    energy = np.square(projected).sum(axis=0)
    assert np.all(np.diff(energy) <= 1e-3 * energy[0])
    np.testing.assert_allclose(long.directions[:, :5], short.directions, atol=1e-3)


def test_related_words_are_near_though_no_word_is_shared(texts: list[str]) -> None:
    embedder = LocalEmbedder.fit(texts, dim=3)
    question = embedder.embed_query("violin")
    scores = embedder.embed_documents(["piano orchestra", "anchor captain", "flour sugar"]) @ question
    assert scores[0] > 0.9
    assert scores[1] < 0.5
    assert scores[2] < 0.5


def test_fewer_dims_come_where_the_texts_span_fewer() -> None:
    assert LocalEmbedder.fit(["red apple", "green pear", "blue plum"], dim=100).dim == 3


def test_saved_and_loaded_it_gives_the_same_vectors(
    embedder: LocalEmbedder, texts: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "model.lsa"
    embedder.save(file)
    loaded = LocalEmbedder.load(file)
    assert loaded.fingerprint == embedder.fingerprint
    np.testing.assert_array_equal(loaded.embed_documents(texts), embedder.embed_documents(texts))


def test_fingerprints_tell_fits_apart(embedder: LocalEmbedder, texts: list[str]) -> None:
    assert LocalEmbedder.fit(texts, dim=20).fingerprint == embedder.fingerprint
    assert LocalEmbedder.fit(texts, dim=19).fingerprint != embedder.fingerprint
    assert LocalEmbedder.fit(texts[1:], dim=20).fingerprint != embedder.fingerprint


@pytest.mark.parametrize("content", [b"", b"no archive", pickle.dumps({"a": 1})])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "other"
    file.write_bytes(content)
    with pytest.raises(CorruptStore, match="other"):
        LocalEmbedder.load(file)


def test_a_pickle_inside_is_never_loaded(tmp_path: Path) -> None:
    file = tmp_path / "evil"
    with file.open("wb") as out:
        np.savez(out, about=np.array([print], dtype=object), idf=np.ones(1), directions=np.ones((1, 1)))
    with pytest.raises(CorruptStore, match="pickle"):
        LocalEmbedder.load(file)


def test_every_changed_byte_of_the_arrays_is_noticed(
    embedder: LocalEmbedder, texts: list[str], tmp_path: Path
) -> None:
    """At once in the small arrays; in the large one, which is not read whole, where its row is used."""
    file = tmp_path / "model"
    embedder.save(file)
    good = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        starts = [info.header_offset + 200 for info in archive.infolist()]
    for place in (*starts, len(good) // 2):
        file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(CorruptStore):
            LocalEmbedder.load(file).embed_documents(texts)
    first_row = good.index(embedder.directions[0].tobytes())
    file.write_bytes(good[:first_row] + bytes([good[first_row] ^ 1]) + good[first_row + 1 :])
    damaged = LocalEmbedder.load(file)
    assert damaged.words[0] == "anchor"
    np.testing.assert_array_equal(damaged.embed_query("violin"), embedder.embed_query("violin"))
    for _ in range(2):
        with pytest.raises(CorruptStore, match="the row of 'anchor' does not match its checksum"):
            damaged.embed_query("anchor")


def test_a_file_that_is_cut_off_is_refused(embedder: LocalEmbedder, tmp_path: Path) -> None:
    file = tmp_path / "model"
    embedder.save(file)
    for size in (0, 10, file.stat().st_size // 2, file.stat().st_size - 1):
        cut = tmp_path / "cut"
        cut.write_bytes(file.read_bytes()[:size])
        with pytest.raises(CorruptStore):
            LocalEmbedder.load(cut)


def test_a_model_that_cannot_be_written_leaves_the_earlier_one(
    embedder: LocalEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model"
    embedder.save(file)
    good = file.read_bytes()

    def full(_: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="full"):
        embedder.save(file)
    assert file.read_bytes() == good and [each.name for each in tmp_path.iterdir()] == ["model"]


def test_arrays_that_do_not_fit_together_are_refused(embedder: LocalEmbedder, tmp_path: Path) -> None:
    file = tmp_path / "model"
    embedder.save(file)
    with np.load(file) as arrays:
        kept = {name: arrays[name] for name in ("about", "idf", "row_crcs")}
    with file.open("wb") as out:
        np.savez(out, **kept, directions=embedder.directions[:-1])
    with pytest.raises(CorruptStore, match="fit together"):
        LocalEmbedder.load(file)


def test_unknown_words_are_an_error_that_names_the_text_and_has_the_other_vectors(
    embedder: LocalEmbedder,
) -> None:
    with pytest.raises(NoKnownWord, match="text 1 .*'xylophones'") as raised:
        embedder.embed_documents(["piano", "xylophones", "violin", "12"])
    error = pickle.loads(pickle.dumps(raised.value))
    assert error.items == [1, 3] and set(error.failed) == {1, 3} and not error.of_service
    assert set(error.succeeded) == {0, 2}
    np.testing.assert_array_equal(error.succeeded[2], embedder.embed_query("violin"))
    with pytest.raises(EmbedError):
        embedder.embed_query("")


@pytest.mark.parametrize(
    "wrong", [{"dim": 1}, {"dim": 0}, {"texts": []}, {"texts": ["", ""]}, {"texts": ["one"]}]
)
def test_bad_arguments_are_refused(texts: list[str], wrong: dict[str, object]) -> None:
    arguments: dict[str, object] = {"texts": texts, "dim": 5, **wrong}
    with pytest.raises(InvalidInput):
        LocalEmbedder.fit(**arguments)  # type: ignore[arg-type]


def test_other_contents_than_texts_are_refused(embedder: LocalEmbedder) -> None:
    with pytest.raises(InvalidInput, match=r"contents\[1\]"):
        embedder.embed_documents(["piano", b"violin"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parse_date parses dates, parsing", ["pars", "dat", "pars", "dat", "pars"]),
        ("HTTPServer.doGet", ["http", "server", "do", "get"]),
        ("running copies of a class", ["run", "copy", "of", "class"]),
        ("12 + 3", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_only_fitting_needs_scikit_learn(embedder: LocalEmbedder, tmp_path: Path) -> None:
    """What embeds a question loads neither it nor scipy."""
    embedder.save(tmp_path / "model")
    program = (
        "import sys; sys.modules['sklearn'] = sys.modules['scipy'] = None\n"
        "from mrlstore.embedders.local import LocalEmbedder\n"
        f"print(*LocalEmbedder.load({str(tmp_path / 'model')!r}).embed_query('violin'))\n"
        "LocalEmbedder.fit(['a b', 'c d'])"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode != 0
    assert "pip install 'mrlstore[local]'" in finished.stderr
    given = np.array(finished.stdout.split(), np.float32)
    np.testing.assert_array_equal(given, embedder.embed_query("violin"))
