"""The local server, clients of the real SDK that talk to it, and time that does not pass."""

from __future__ import annotations

import importlib.util
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mrlstore.embedders.gemini import Clock, GeminiEmbedder, Retry
from tests.embedders.gemini.server import Google, running


def installed() -> bool:
    try:
        return importlib.util.find_spec("google.genai") is not None
    except ModuleNotFoundError:
        return False


collect_ignore_glob = [] if installed() else ["test_*.py"]


def import_sdk() -> Any:
    """The SDK; some of its versions warn about their own dependencies when imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("google.genai")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDK and HTTP libraries read from the environment is not there."""
    for name in list(os.environ):
        if name.startswith(("GOOGLE_", "GEMINI_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def google() -> Iterator[Google]:
    import_sdk()
    with running() as server:
        yield server


@pytest.fixture
def client(google: Google) -> Iterator[Callable[..., Any]]:
    """Make clients of the SDK that talk to the local server; closed at the end."""
    made = []

    def make(**options: Any) -> Any:
        options = {"api_key": "K"} | options
        http_options = {"base_url": google.url} | options.pop("http_options", {})
        made.append(import_sdk().Client(**options, http_options=http_options))
        return made[-1]

    yield make
    for one in made:
        one.close()


class FakeClock(Clock):
    """Time that passes only when somebody waits; `waits` are the seconds that were waited for."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.waits: list[float] = []
        self._lock = threading.Lock()

    def now(self) -> float:
        return self.time

    def wait(self, stop: threading.Event, seconds: float) -> None:
        with self._lock:
            self.waits.append(seconds)
            self.time += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


Embedders = Callable[..., GeminiEmbedder]


@pytest.fixture
def embedder(client: Callable[..., Any], clock: FakeClock) -> Embedders:
    """Make embedders that talk to the local server and wait in no real time."""

    def make(*args: Any, **options: Any) -> GeminiEmbedder:
        given = {"client": client(), "clock": clock, "retry": Retry(attempts=4)} | options
        return GeminiEmbedder(*args, **given)

    return make
