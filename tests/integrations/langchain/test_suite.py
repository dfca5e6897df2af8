"""The suite that LangChain ships for vector stores, all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_tests", reason="needs the environment of make test-integrations")

from langchain_tests.integration_tests import VectorStoreIntegrationTests

from mrlstore.integrations.langchain import MrlVectorStore


class TestMrlVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture()
    def vectorstore(self, path: Path) -> Iterator[Any]:
        made = MrlVectorStore(path, self.get_embeddings(), auto_maintain=False)
        yield made
        made.close()
