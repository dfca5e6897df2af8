"""The suites that Haystack ships for document stores, all of them, sync and async."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("haystack", reason="needs the environment of make test-integrations")

from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.testing import document_store as suite
from haystack.testing import document_store_async as async_suite

from mrlstore.integrations.haystack import MrlDocumentStore


def but_embedding(document: Document) -> dict[str, Any]:
    return {name: value for name, value in document.to_dict(flatten=False).items() if name != "embedding"}


class Fixture:
    """What the suites leave to the implementation: the store, and how documents compare.

    They come in the order of their ids, and embeddings are held in half precision; all else is exact.
    """

    @pytest.fixture
    def document_store(self, path: Path) -> Iterator[MrlDocumentStore]:
        made = MrlDocumentStore(path, auto_maintain=False)
        yield made
        made.close()

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        expected = sorted(expected, key=lambda document: document.id)
        assert [but_embedding(item) for item in received] == [but_embedding(item) for item in expected]
        for ours, theirs in zip(received, expected, strict=True):
            assert (ours.embedding is None) == (theirs.embedding is None)
            if theirs.embedding is not None:
                largest = max(map(abs, theirs.embedding))
                np.testing.assert_allclose(ours.embedding, theirs.embedding, rtol=0, atol=largest / 1000)


class TestSync(
    Fixture,
    suite.DocumentStoreBaseExtendedTests,
    suite.CountDocumentsByFilterTest,
    suite.CountUniqueMetadataByFilterTest,
    suite.GetMetadataFieldsInfoTest,
    suite.GetMetadataFieldMinMaxTest,
    suite.GetMetadataFieldUniqueValuesTest,
):
    def test_write_documents(self, document_store: MrlDocumentStore) -> None:
        documents = [Document(content="one"), Document(content="two", embedding=[1.0, 0.5])]
        assert document_store.write_documents(documents) == 2
        self.assert_documents_are_equal(document_store.filter_documents(), documents)
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents(documents[:1])


class TestAsync(
    Fixture,
    async_suite.CountDocumentsAsyncTest,
    async_suite.WriteDocumentsAsyncTest,
    async_suite.DeleteDocumentsAsyncTest,
    async_suite.DeleteAllAsyncTest,
    async_suite.DeleteByFilterAsyncTest,
    async_suite.UpdateByFilterAsyncTest,
    async_suite.FilterDocumentsAsyncTest,
    async_suite.CountDocumentsByFilterAsyncTest,
    async_suite.CountUniqueMetadataByFilterAsyncTest,
    async_suite.GetMetadataFieldsInfoAsyncTest,
    async_suite.GetMetadataFieldMinMaxAsyncTest,
    async_suite.GetMetadataFieldUniqueValuesAsyncTest,
):
    async def test_write_documents_async(self, document_store: MrlDocumentStore) -> None:
        documents = [Document(content="one"), Document(content="two", embedding=[1.0, 0.5])]
        assert await document_store.write_documents_async(documents) == 2
        self.assert_documents_are_equal(await document_store.filter_documents_async(), documents)
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async(documents[:1])


def test_no_part_of_the_suites_is_left_out() -> None:
    shipped = {
        name
        for module in (suite, async_suite)
        for name, value in vars(module).items()
        if isinstance(value, type) and name.endswith(("Test", "Tests"))
    }
    used = {base.__name__ for ours in (TestSync, TestAsync) for base in ours.__mro__}
    assert shipped <= used, shipped - used
