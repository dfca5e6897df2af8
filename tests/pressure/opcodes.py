"""Raising an exception, or running a signal handler, in front of any bytecode of the library."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, Self

import mrlstore
from tests.scale import FULL

HOMES = (str(Path(mrlstore.__file__).parent), contextlib.__file__)
# A call of more bytecodes than this, in loops, is tried at the first and the last time that each is run.
_EACH: Final = 30_000


class AtOpcode:
    """Calls `act` in front of the `nth` bytecode that this thread runs in the library; 0 counts them only."""

    def __init__(self, nth: int, act: Callable[[], None], within: tuple[str, ...] = HOMES) -> None:
        self.nth, self.seen, self.act, self.within = nth, 0, act, within
        self.place = ""

    def __enter__(self) -> Self:
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
            self._note(frame)
            if self.seen == self.nth:
                sys.settrace(None)
                file = Path(frame.f_code.co_filename).name
                self.place = f"{file}:{frame.f_lineno} {frame.f_code.co_name}, offset {frame.f_lasti}"
                self.act()
        return self._opcode

    def _note(self, frame: FrameType) -> None:
        pass


class Counted(AtOpcode):
    """The bytecodes of a block: how many are run, and when each of the code is run first and last."""

    def __init__(self, within: tuple[str, ...] = HOMES) -> None:
        super().__init__(0, interrupt, within)
        self.first: dict[tuple[CodeType, int], int] = {}
        self.last: dict[tuple[CodeType, int], int] = {}

    def _note(self, frame: FrameType) -> None:
        place = frame.f_code, frame.f_lasti
        self.first.setdefault(place, self.seen)
        self.last[place] = self.seen

    def places(self, seed: str, sample: int = 60) -> list[int]:
        """Which bytecodes to try: under `make torture` all, otherwise always the same sample."""
        if FULL and self.seen > _EACH:
            return sorted({*self.first.values(), *self.last.values()})
        return places(self.seen, seed, sample)


def counted(run: Callable[[], object]) -> Counted:
    """The bytecodes of a call."""
    with Counted() as found:
        run()
    return found


def interrupt() -> None:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


def lack_memory() -> None:
    """What Python does where it gets no memory."""
    raise MemoryError


def places(count: int, seed: str, sample: int = 60) -> list[int]:
    """Which of so many bytecodes to try: all under `make torture`, otherwise always the same sample."""
    if FULL or count <= sample:
        return list(range(1, count + 1))
    return sorted(random.Random(seed).sample(range(1, count + 1), sample))
