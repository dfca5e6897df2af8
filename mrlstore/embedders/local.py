"""Latent semantic analysis: an embedder that needs no key, no network and no model file.

TF-IDF weights (scikit-learn) are projected onto their leading singular directions, so dimensions come
ordered by importance and every prefix of a vector is the best vector of that length: a true nested
(Matryoshka) representation. The singular vectors come from the Gram matrix of the texts, which takes
seconds for a few thousand texts, where a randomised solver takes minutes for thousands of dimensions.

Deerwester, Dumais, Furnas, Landauer and Harshman (1990), "Indexing by latent semantic analysis".
Needs the extra `local`. It serves demonstrations and tests: it knows only the words of the texts that it was
fitted on. A trained model finds far more.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import CorruptStore, EmbedError, InvalidInput

FORMAT: Final = 1
MANY_TEXTS: Final = 1000  # with so many texts or more, words that stand in one text only are left out
WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
ENDINGS: Final = (("ies", "y"), ("ied", "y"), ("ss", "ss"), ("ing", ""), ("ed", ""), ("s", ""))


class NoKnownWord(EmbedError):
    """Texts have no word that the embedder knows; `items` are their numbers. Others could be embedded."""

    def __init__(self, message: str, items: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.items = list(items)

    def __reduce__(self) -> tuple[type[NoKnownWord], tuple[str, list[int]]]:
        return type(self), (str(self), self.items)


class LocalEmbedder:
    """An embedder fitted on texts of your own; see `fit`, `save` and `load`.

    `dim` is the length of its vectors. `fingerprint` differs between two fits: their vectors cannot be
    compared.
    """

    def __init__(self, words: list[str], idf: NDArray[np.float64], directions: NDArray[np.float32]) -> None:
        """Take the parts of a fitted model; callers use `fit` or `load`.

        Args:
            words: the vocabulary, in column order.
            idf: float64 [words], the inverse document frequencies.
            directions: float32 [words, dim], orthonormal columns, most important first.
        """
        self.words = words
        self.idf = idf
        self.directions = directions
        self.dim = directions.shape[1]
        self.fingerprint = f"mrlstore-lsa-{FORMAT}-{self.dim}-{_digest(words, idf, directions)}"
        self._weights = _vectorizer(vocabulary=words)
        self._weights.idf_ = idf

    @classmethod
    def fit(cls, texts: Sequence[str], *, dim: int = 3072) -> LocalEmbedder:
        """Fit an embedder on `texts`. Takes memory for len(texts) squared and words times `dim` floats.

        Args:
            texts: usually those that are to be stored.
            dim: the most dimensions of the vectors; n texts give at most n.

        Raises:
            InvalidInput: fewer than two texts with words of their own, or `dim` below 2.
            ImportError: the extra `local` is not installed.
        """
        if dim < 2:
            raise InvalidInput(f"dim is {dim}; it must be at least 2")
        weights = _vectorizer(min_df=2 if len(texts) >= MANY_TEXTS else 1)
        try:
            table = weights.fit_transform(texts)  # sparse float32 [texts, words], unit rows
        except ValueError as error:
            raise InvalidInput(f"these {len(texts)} texts cannot be learned from: {error}") from error
        directions = _leading_directions(table, dim)
        if directions.shape[1] < 2:
            raise InvalidInput(f"these {len(texts)} texts differ too little to be distinguished; give more")
        return cls(list(weights.get_feature_names_out()), np.asarray(weights.idf_, np.float64), directions)

    def embed_documents(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        """Embed texts: float32 [len(contents), dim], rows of length 1.

        Raises:
            NoKnownWord (an EmbedError): texts have no word that the model knows; `items` are their numbers.
        """
        wrong = [number for number, text in enumerate(contents) if not isinstance(text, str)]
        if wrong:
            raise InvalidInput(f"contents[{wrong[0]}] is no text; this embedder knows texts only")
        vectors = np.asarray(self._weights.transform(contents) @ self.directions, dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1)
        unknown = np.flatnonzero(lengths < 1e-6)
        if len(unknown):
            text = contents[unknown[0]]
            message = f"text {unknown[0]} has no word that the model learned: {text[:80]!r}"
            raise NoKnownWord(message, unknown.tolist())
        return np.asarray(vectors / lengths[:, None], dtype=np.float32)

    def embed_query(self, content: Any) -> NDArray[np.float32]:
        """Embed a query as a text is embedded: float32 [dim], of length 1.

        Raises:
            EmbedError: the query has no word that the model knows.
        """
        row: NDArray[np.float32] = self.embed_documents([content])[0]
        return row

    def save(self, path: str | Path) -> None:
        """Write the model to one file of plain arrays (npz), without pickle."""
        about = json.dumps({"format": FORMAT, "fingerprint": self.fingerprint, "words": self.words})
        text = np.frombuffer(about.encode(), dtype=np.uint8)
        with Path(path).open("wb") as file:
            np.savez(file, about=text, idf=self.idf, directions=self.directions)

    @classmethod
    def load(cls, path: str | Path) -> LocalEmbedder:
        """Read a model that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            CorruptStore: the file is something else, or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                about = json.loads(arrays["about"].tobytes())
                idf, directions = arrays["idf"], arrays["directions"]
            words, fingerprint = list(about["words"]), about["fingerprint"]
        except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise CorruptStore(path, f"no readable local embedder: {error}") from error
        fits = (
            idf.dtype == np.float64
            and directions.dtype == np.float32
            and idf.shape == (len(words),)
            and directions.ndim == 2
            and len(directions) == len(words)
        )
        if not fits:
            raise CorruptStore(path, "the arrays of this local embedder do not fit together")
        embedder = cls(words, idf, directions)
        if embedder.fingerprint != fingerprint:
            raise CorruptStore(path, "the contents of this local embedder do not match its fingerprint")
        return embedder


def words_of(text: str) -> list[str]:
    """The words of a text for matching: split at capitals, in lower case, common endings cut off."""
    return [_stem(word.lower()) for word in WORD.findall(text) if len(word) > 1]


def _stem(word: str) -> str:
    for ending, instead in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + instead
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]  # "running", "run"
    return word[:-1] if len(word) > 3 and word[-1] == "e" else word  # "parsing", "parse"


def _vectorizer(**options: Any) -> Any:
    try:
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
    except ImportError as error:
        message = "the local embedder needs scikit-learn: pip install 'mrlstore[local]'"
        raise ImportError(message) from error

    def analyse(text: str) -> list[str]:
        return [word for word in words_of(text) if word not in ENGLISH_STOP_WORDS]

    return TfidfVectorizer(analyzer=analyse, sublinear_tf=True, dtype=np.float32, **options)


def _leading_directions(table: Any, dim: int) -> NDArray[np.float32]:
    """The first right singular vectors of a sparse float32 [texts, words]: float32 [words, <= dim].

    With table = U S V', the Gram matrix table table' is U S^2 U', and V = table' U / S.
    """
    from scipy.linalg import eigh

    gram = (table @ table.T).toarray()
    # The divide-and-conquer driver computes all eigenpairs faster than the other drivers compute some.
    squares, left = eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
    squares, left = squares[::-1][:dim], left[:, ::-1][:, :dim]
    kept = int(np.sum(squares > 1e-4 * squares[0]))
    directions = np.asarray(table.T @ left[:, :kept], dtype=np.float32)
    directions /= np.sqrt(squares[:kept])
    # An eigenvector is known up to its sign: choose one, so that equal fits are equal.
    peaks = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)[0]
    directions *= np.sign(peaks)
    return np.ascontiguousarray(directions)


def _digest(words: list[str], idf: NDArray[np.float64], directions: NDArray[np.float32]) -> str:
    digest = hashlib.blake2b(json.dumps(words).encode(), digest_size=8)
    digest.update(idf.tobytes())
    digest.update(directions.tobytes())
    return digest.hexdigest()
