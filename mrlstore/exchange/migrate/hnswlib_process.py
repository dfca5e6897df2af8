"""A process that searches an index file with hnswlib, whose crash is an error here and no more."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import OriginError
from mrlstore.exchange.migrate import hnswlib_child
from mrlstore.index.hnsw_file import HnswFile

_LONGEST_S: Final = 600.0  # for the first answer, before which the file is loaded; and for each later one
_CLOSE_S: Final = 5.0


class HnswlibProcess:
    """hnswlib with one index file, in a process of its own, which is started at once.

    program: a file of Python that is called as `hnswlib_child` is.
    """

    def __init__(self, file: HnswFile, program: Path = Path(hnswlib_child.__file__)) -> None:
        self._path = file.path
        arguments = [str(file.path), str(file.dim), str(len(file.records))]
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )

    def search(self, unit: NDArray[np.float32], k: int) -> list[int]:
        """The labels of the k rows nearest to a unit vector [dim], best first.

        Raises OriginError if hnswlib cannot answer, or its process died or was too slow.
        """
        assert self._child.stdin is not None
        question = {"k": k, "vector": unit.astype(float).tolist()}
        with suppress(BrokenPipeError):  # the answer that is missing says so
            self._child.stdin.write(json.dumps(question).encode() + b"\n")
        answer = json.loads(self._line() or "null")
        if answer is None:
            raise OriginError(f"{self._path}: {self._death()}")
        if "error" in answer:
            raise OriginError(f"{self._path}: hnswlib: {answer['error']}")
        return [int(label) for label in answer["labels"]]

    def close(self) -> None:
        """End the process."""
        child = self._child
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            child.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _line(self) -> bytes:
        """One line of the process's output; what there is of it if the process ends."""
        assert self._child.stdout is not None
        found, deadline = b"", time.monotonic() + _LONGEST_S
        while not found.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._child.stdout], [], [], left)[0]:
                self._child.kill()
                raise OriginError(f"{self._path}: hnswlib gave no answer within {_LONGEST_S:g} s")
            piece = self._child.stdout.read(65_536)
            if not piece:
                return b""
            found += piece
        return found

    def _death(self) -> str:
        code = self._child.wait(_CLOSE_S)
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return f"the process that searches it with hnswlib ended {how}: the file is damaged"
