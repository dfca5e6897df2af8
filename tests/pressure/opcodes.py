"""Raising an exception, or running a signal handler, in front of any bytecode of the library."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import mrlstore
from tests.scale import FULL

HOMES = (str(Path(mrlstore.__file__).parent), contextlib.__file__)


class AtOpcode:
    """Calls `act` in front of the `nth` bytecode that this thread runs in the library; 0 counts them only."""

    def __init__(self, nth: int, act: Callable[[], None], within: tuple[str, ...] = HOMES) -> None:
        self.nth, self.seen, self.act, self.within = nth, 0, act, within
        self.place = ""

    def __enter__(self) -> AtOpcode:
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(self.within):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._opcode

    def _opcode(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            self.seen += 1
            if self.seen == self.nth:
                sys.settrace(None)
                file = Path(frame.f_code.co_filename).name
                self.place = f"{file}:{frame.f_lineno} {frame.f_code.co_name}, offset {frame.f_lasti}"
                self.act()
        return self._opcode


def interrupt() -> None:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


def places(count: int, seed: str, sample: int = 60) -> list[int]:
    """Which of so many bytecodes to try: all under `make torture`, otherwise always the same sample."""
    if FULL or count <= sample:
        return list(range(1, count + 1))
    return sorted(random.Random(seed).sample(range(1, count + 1), sample))
