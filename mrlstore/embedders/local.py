"""Latent semantic analysis: an embedder that needs no key, no network and no model file.

TF-IDF weights are projected onto their leading singular directions, so dimensions come ordered by importance
and every prefix of a vector is the best vector of that length: a true nested (Matryoshka) representation. The
singular vectors come from the Gram matrix of the texts, which takes seconds for a few thousand texts, where a
randomised solver takes minutes for thousands of dimensions.

Deerwester, Dumais, Furnas, Landauer and Harshman (1990), "Indexing by latent semantic analysis".
Fitting needs the extra `local` (scikit-learn); embedding needs numpy alone. It serves demonstrations, tests
and small collections: it knows only the words of the texts that it was fitted on. A trained model finds far
more.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import CorruptStore, EmbedError, InvalidInput
from mrlstore.system.mapping import map_file
from mrlstore.system.whole_file import whole_file

FORMAT: Final = 2
FINGERPRINT: Final = "mrlstore-lsa-"  # how the fingerprints of all local embedders begin
MANY_TEXTS: Final = 1000  # with so many texts or more, words that stand in one text only are left out
WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
ENDINGS: Final = (("ies", "y"), ("ied", "y"), ("ss", "ss"), ("ing", ""), ("ed", ""), ("s", ""))

Vector = NDArray[np.float32]


class NoKnownWord(EmbedError):
    """Texts have no word that the embedder knows.

    `items` are their numbers, `failed` has an error for each, and `succeeded` the vectors of all other texts.
    """

    of_service = False  # other texts can be embedded

    def __init__(
        self, message: str, items: Sequence[int] = (), succeeded: Mapping[int, Vector] | None = None
    ) -> None:
        super().__init__(message)
        self.items = list(items)
        self.succeeded = succeeded
        self.failed = {number: NoKnownWord("it has no word that the model knows") for number in self.items}

    def __reduce__(self) -> tuple[type[NoKnownWord], tuple[str, list[int], Mapping[int, Vector] | None]]:
        return type(self), (str(self), self.items, self.succeeded)


class NotText(InvalidInput):
    """A content is not a text; `item` is its number. Others can be embedded."""

    def __init__(self, message: str, item: int) -> None:
        super().__init__(message)
        self.item = item

    def __reduce__(self) -> tuple[type[NotText], tuple[str, int]]:
        return type(self), (str(self), self.item)


class TermWeights(NamedTuple):
    """The known words of a text and how much each weighs: logarithmic counts by rarity, of length 1."""

    columns: NDArray[np.intp]  # [known words], ascending
    weights: NDArray[np.float32]  # [known words]


class LocalEmbedder:
    """An embedder fitted on texts of your own; see `fit`, `save` and `load`.

    `dim` is the length of its vectors, `words` its vocabulary, `texts` how many texts it was fitted on.
    `fingerprint` differs between two fits: their vectors cannot be compared.
    """

    def __init__(
        self,
        words: list[str],
        idf: NDArray[np.float64],
        directions: NDArray[np.float32],
        texts: int,
        *,
        row_crcs: NDArray[np.uint32] | None = None,
    ) -> None:
        """Take the parts of a fitted model; callers use `fit` or `load`.

        Args:
            words: the vocabulary, in the order of the rows of `directions`.
            idf: float64 [words], the inverse document frequencies.
            directions: float32 [words, dim], orthonormal columns, most important first.
            texts: how many texts the model was fitted on.
            row_crcs: uint32 [words], the CRC-32 of each row of `directions`, which is compared when the row
                is first used. None: the rows are right, and get their checksums here.
        """
        self.words = words
        self.idf = idf
        self.directions = directions
        self.texts = texts
        self.dim = directions.shape[1]
        self._columns = {word: column for column, word in enumerate(words)}
        self._unchecked = np.full(len(words), row_crcs is not None)
        self._row_crcs = _crcs_of(directions) if row_crcs is None else row_crcs
        self.fingerprint = f"{FINGERPRINT}{FORMAT}-{self.dim}-{_digest(words, idf, self._row_crcs)}"
        self._path: Path | None = None  # of the file that `directions` are mapped from

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
            raise InvalidInput(
                f"texts: {len(texts):,} are too few to learn from, or too much alike; give more of them"
            )
        words = list(map(str, weights.get_feature_names_out()))
        return cls(words, np.asarray(weights.idf_, np.float64), directions, len(texts))

    def embed_documents(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        """Embed texts: float32 [len(contents), dim], rows of length 1.

        Raises:
            NoKnownWord (an EmbedError): texts have no word that the model knows; `items` are their numbers.
            NotText (an InvalidInput): a content is not a text; `item` is its number.
            CorruptStore: the file of the model is damaged where it was read now.
        """
        for number, text in enumerate(contents):
            if not isinstance(text, str):
                raise NotText(f"contents[{number}] is {text!r:.80}; this embedder knows texts only", number)
        vectors = np.zeros((len(contents), self.dim), np.float32)
        for vector, text in zip(vectors, contents, strict=True):
            columns, weights = self.weigh(text)
            np.einsum("i,ij->j", weights, self._rows(columns), out=vector)
        lengths = np.linalg.norm(vectors, axis=1)
        unknown = np.flatnonzero(lengths < 1e-6).tolist()
        vectors /= np.maximum(lengths, 1e-6)[:, None]
        if unknown:
            text = contents[unknown[0]]
            message = f"text {unknown[0]} has no word that the model learned: {text[:80]!r}"
            known = {number: vectors[number] for number in range(len(vectors)) if lengths[number] >= 1e-6}
            raise NoKnownWord(message, unknown, known)
        return vectors

    def embed_query(self, content: Any) -> NDArray[np.float32]:
        """Embed a query as a text is embedded: float32 [dim], of length 1.

        Raises:
            EmbedError: the query has no word that the model knows.
        """
        row: NDArray[np.float32] = self.embed_documents([content])[0]
        return row

    def weigh(self, text: str) -> TermWeights:
        """The weights of the known words of a text: (1 + log(count)) * idf, brought to length 1."""
        known = map(self._columns.get, words_of(text))
        counts = Counter(column for column in known if column is not None)
        columns = np.array(sorted(counts), np.intp)
        numbers = np.array([counts[column] for column in columns.tolist()], np.float64)
        weights = (1 + np.log(numbers)) * self.idf[columns]
        return TermWeights(
            columns, (weights / max(math.sqrt(np.square(weights).sum()), 1e-12)).astype(np.float32)
        )

    def save(self, path: str | Path) -> None:
        """Write the model to one file of plain arrays (npz), without pickle. It appears when it is whole.

        `directions` are stored uncompressed with a checksum for each row, so that a process which embeds a
        question reads a few rows only.
        """
        path = Path(path)
        about = {"format": FORMAT, "fingerprint": self.fingerprint, "texts": self.texts, "words": self.words}
        text = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
        crcs, directions = self._row_crcs, self.directions
        with whole_file(path) as file:
            np.savez(file, about=text, idf=self.idf, row_crcs=crcs, directions=directions)

    @classmethod
    def load(cls, path: str | Path) -> LocalEmbedder:
        """Open a model that `save` wrote. Its largest array is mapped, and checked where it is used.

        Raises:
            FileNotFoundError: there is no such file.
            CorruptStore: the file is something else, damaged, or of an earlier format.
        """
        path = Path(path)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                about = json.loads(arrays["about"].tobytes())
                words, fingerprint, texts = list(about["words"]), about["fingerprint"], int(about["texts"])
                idf, row_crcs = arrays["idf"], arrays["row_crcs"]
                directions = _map_directions(file, arrays.zip)
        except (ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise CorruptStore(path, f"no readable local embedder of format {FORMAT}: {error}") from error
        fits = (
            idf.dtype == np.float64
            and row_crcs.dtype == np.uint32
            and directions.dtype == np.float32
            and idf.shape == row_crcs.shape == (len(words),)
            and directions.ndim == 2
            and len(directions) == len(words)
        )
        if not fits:
            raise CorruptStore(path, "the arrays of this local embedder do not fit together")
        embedder = cls(words, idf, directions, texts, row_crcs=row_crcs)
        embedder._path = path
        if embedder.fingerprint != fingerprint:
            raise CorruptStore(path, "the contents of this local embedder do not match its fingerprint")
        return embedder

    def _rows(self, columns: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rows of `directions`, float32 [columns, dim], compared with their checksums at their first use."""
        rows = np.ascontiguousarray(self.directions[columns])
        for place in np.flatnonzero(self._unchecked[columns]).tolist():
            if zlib.crc32(rows[place]) != self._row_crcs[columns[place]]:
                word = self.words[columns[place]]
                raise CorruptStore(self._path or "", f"the row of {word!r} does not match its checksum")
        self._unchecked[columns] = False
        return rows


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
        message = "fitting a local embedder needs scikit-learn: pip install 'mrlstore[local]'"
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


def _map_directions(file: BinaryIO, archive: zipfile.ZipFile) -> NDArray[np.float32]:
    """The array `directions` of an npz archive, mapped: float32 [words, dim]. ValueError where it is none."""
    member = archive.getinfo("directions.npy")
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError("directions are compressed")
    file.seek(member.header_offset + 26)  # of a local header, which has 30 bytes before name and extra
    lengths = np.frombuffer(file.read(4), "<u2")
    file.seek(int(lengths.sum()), os.SEEK_CUR)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("directions have an unknown version of the npy format")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    start, size = file.tell(), os.fstat(file.fileno()).st_size
    count = math.prod(shape)
    if by_columns or dtype != np.float32 or not 0 < count <= (size - start) // 4:
        raise ValueError("directions are not an array of float32 rows, or cut off")
    return np.frombuffer(map_file(file.fileno(), size), dtype, count, start).reshape(shape)


def _crcs_of(directions: NDArray[np.float32]) -> NDArray[np.uint32]:
    return np.array([zlib.crc32(row) for row in np.ascontiguousarray(directions)], np.uint32)


def _digest(words: list[str], idf: NDArray[np.float64], row_crcs: NDArray[np.uint32]) -> str:
    digest = hashlib.blake2b(json.dumps(words).encode(), digest_size=8)
    digest.update(idf.tobytes())
    digest.update(row_crcs.tobytes())
    return digest.hexdigest()
