"""What all parts of `RemoteStore` have in common: one index of a server, and requests about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote

from mrlstore.api.arguments import ProgressCallback
from mrlstore.checks import check_progress
from mrlstore.client.transport import Request, Transport
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput

T = TypeVar("T")
BASE64: Final = {"vectors": "base64"}


class RemoteIndex:
    """One index of a server."""

    def __init__(
        self, transport: Transport, index: str, *, embedder: Embedder | None, mode: Literal["r", "a", "x"]
    ) -> None:
        self.transport = transport
        self._index, self._embedder, self._mode = index, embedder, mode
        self._place = f"/v1/indexes/{quote(index, safe='')}"

    @property
    def url(self) -> str:
        """The address of the index."""
        return f"{self.transport.url}{self._place}"

    def _asking(
        self, name: str, body: Mapping[str, Any], read: Callable[[Any], T], params: Mapping[str, str] = BASE64
    ) -> Request[T]:
        """A request that reads."""
        return Request("POST", f"{self._place}/{name}", body, read, params)

    def _changing(
        self,
        name: str,
        body: Mapping[str, Any],
        read: Callable[[Any], T],
        progress: ProgressCallback | None = None,
    ) -> Request[T]:
        """A request that changes something; refused here where the index was opened to be read."""
        if self._mode == "r":
            raise InvalidInput(f'{self.url} was opened with mode="r"; open it with mode="a" to write')
        check_progress(progress)
        return Request("POST", f"{self._place}/{name}", body, read, {}, progress)


def count_of(answer: Any) -> int:
    """How many rows an answer counts."""
    return int(answer["count"])


def nothing(answer: Any) -> None:
    """Of an answer that says only that it is done."""
