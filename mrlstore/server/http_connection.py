"""`HttpConnection`: uvicorn's connection, closed where a client does not send its headers in time."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

VARIABLE: Final = "MRLSTORE_HEADER_S"


class HttpConnection(HttpToolsProtocol):
    """Gives a client a limited time from its first byte, or from its connection, to the end of the headers.

    uvicorn itself waits for ever, and a connection holds a file descriptor. Between requests its own limit
    for idle connections holds.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first headers."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._got_headers()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a request's headers."""
        super().on_message_begin()
        if self._deadline is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """Wait no more."""
        self._got_headers()
        super().on_headers_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, at once too where its client does not read the last answer."""
        self.transport.abort()

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(float(os.environ.get(VARIABLE, "10")), self._give_up)

    def _got_headers(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        self.transport.abort()
