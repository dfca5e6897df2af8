"""A process that has copies of shards and writes some: what an engine of many processes runs on each node."""

from __future__ import annotations

import logging
import os
import resource
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mrlstore.cluster.engine import ShardAnswer, ShardQuestion, ShardWrite
from mrlstore.cluster.home import read_home
from mrlstore.cluster.placement import HostState, ShardState
from mrlstore.cluster.running_shard import RunningShard, ShardCare
from mrlstore.cluster.shard_copy import ShardCopy
from mrlstore.cluster.shard_messages import packed_answer, unpacked_question
from mrlstore.cluster.shard_rounds import ShardRounds
from mrlstore.cluster.write_requests import ShardWritten
from mrlstore.errors import MrlStoreError
from mrlstore.object_storage import ObjectStorage, open_storage
from mrlstore.system.log import log_event

_THREADS: Final = 8
_OPENED_AT_ONCE: Final = 2  # copies that are restored at the same time: each reads all that it can


class ShardHost:
    """Opens a shard when it is first asked for, and looks after it. Safe to use from many threads.

    Nothing is opened when it is made: whoever starts processes takes an error there for the end of them.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any] | None,
        folder: str,
        care: ShardCare,
        threads: int,
        node: str = "",
    ) -> None:
        """Of the cluster at `url`, on a node; copies lie below `folder`."""
        self._url, self._options, self._folder, self._node = url, options, Path(folder), node
        self._care, self._threads = care, threads
        self._guard = threading.Lock()
        self._shards: dict[int, RunningShard] = {}
        self._opening: dict[int, threading.Lock] = {}
        self._storage: ObjectStorage | None = None
        self._rounds: ShardRounds | None = None
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="mrlstore-host")
        self._background = ThreadPoolExecutor(_OPENED_AT_ONCE, thread_name_prefix="mrlstore-opening")
        self._begun: set[int] = set()  # shards that the background opens

    def state(self) -> HostState:
        """Its process and the shards that are open. Waits for nothing that is opened or written."""
        found = {}
        for number, shard in list(self._shards.items()):
            with suppress(MrlStoreError):  # it is just opened again
                epoch, place = shard.copy.mark
                found[number] = ShardState(shard.writes, epoch, place)
        return HostState(os.getpid(), self._node, found)

    def hold(self, shards: Sequence[int]) -> None:
        """Begin to open copies of shards; `state` says when that is done."""
        self._in_background(shards, lambda number: self._shard(number, write=False))

    def take(self, shards: Sequence[int]) -> None:
        """Begin to write shards, whoever wrote them before; `state` says when that is done."""

        def work(number: int) -> None:
            self._shard(number, write=True).serving(take_over=True)

        self._in_background(shards, work)

    def drop(self, shards: Sequence[int]) -> None:
        """Close the copies of shards, and remove them from the disk."""
        for number in shards:
            with self._guard:
                opening = self._opening.setdefault(number, threading.Lock())
            with opening:
                shard = self._shards.pop(number, None)
                if shard is not None:
                    shard.close()
                    shard.copy.remove()

    def write(
        self, writes: Sequence[ShardWrite], take_over: bool = False
    ) -> list[ShardWritten | MrlStoreError]:
        """Do writes, as the writer of their shards from now on; WriterReplaced where another has taken over.

        With `take_over` it takes over again.
        """

        def work(one: ShardWrite) -> ShardWritten | MrlStoreError:
            try:
                shard = self._shard(one.shard, write=True)
                return shard.write(one.operation, one.request, take_over=take_over)
            except MrlStoreError as error:
                return error

        return self._each(writes, work)

    def ask(
        self, shards: Sequence[int], question: ShardQuestion, floors: Mapping[int, int]
    ) -> list[ShardAnswer | MrlStoreError]:
        """Answer from the copies of these shards."""
        asked = unpacked_question(question)

        def work(number: int) -> ShardAnswer | MrlStoreError:
            try:
                answer = self._shard(number, write=False).answer(asked, floors.get(number, 0))
                return packed_answer(answer)
            except MrlStoreError as error:
                return error

        return self._each(shards, work)

    def snapshot(self, shards: Sequence[int]) -> list[int | MrlStoreError]:
        """Ship a snapshot of shards that are written here; the place of each."""

        def work(number: int) -> int | MrlStoreError:
            try:
                return self._shard(number, write=True).serving().snapshot()
            except MrlStoreError as error:
                return error

        return self._each(shards, work)

    def close(self) -> None:
        """Close all copies."""
        if self._rounds is not None:
            self._rounds.stop()
        for shard in list(self._shards.values()):
            shard.close()
        self._shards.clear()

    def _shard(self, number: int, *, write: bool) -> RunningShard:
        """The shard, opened by its first caller while others wait."""
        with self._guard:
            opening = self._opening.setdefault(number, threading.Lock())
        with opening:
            shard = self._shards.get(number)
            if shard is None:
                shard = self._opened(number)
                try:
                    shard.begin(write=write)
                except BaseException:
                    shard.close()
                    raise
                self._shards[number] = shard
            return shard

    def _in_background(self, shards: Sequence[int], work: Callable[[int], object]) -> None:
        """Do it for each shard, unless the background does something for that shard already."""

        def one(number: int) -> None:
            try:
                work(number)
            except MrlStoreError as error:
                log_event("shard not opened", self._url, str(error), level=logging.WARNING, shard=number)
            finally:
                self._begun.discard(number)

        for number in shards:
            if number not in self._begun:
                self._begun.add(number)
                self._background.submit(one, number)

    def _opened(self, number: int) -> RunningShard:
        with self._guard:
            if self._storage is None:
                _allow_many_files()
                self._storage = open_storage(self._url, self._options)
            home = read_home(self._storage)
            if self._rounds is None:
                self._rounds = ShardRounds(lambda: list(self._shards.values()), self._care.poll_s or 1.0)
        copy = ShardCopy(
            home, number, self._storage, self._folder / home.uuid, auto_maintain=False, threads=self._threads
        )
        return RunningShard(copy, self._care, maintains=True)

    def _each(self, of: Sequence[Any], work: Any) -> list[Any]:
        if len(of) == 1:
            return [work(of[0])]
        running = [self._pool.submit(work, one) for one in of]
        wait(running)
        return [one.result() for one in running]


def _allow_many_files() -> None:
    """Raise the limit of open files to what the system allows: a shard holds some 25 open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
