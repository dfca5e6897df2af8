"""The methods of `RemoteStore` that look after an index: maintenance, checks, backups, recall."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from mrlstore.api.arguments import ProgressCallback
from mrlstore.checks import check_namespace
from mrlstore.client.remote_call import followed, remote
from mrlstore.client.remote_index import RemoteIndex, count_of, nothing
from mrlstore.client.request_values import vectors_json
from mrlstore.client.transport import Request
from mrlstore.recall.calibrate import Calibration
from mrlstore.recall.defaults import DIMS, QUERIES
from mrlstore.recall.tiers import Qrels, TierReport
from mrlstore.types import GraphBuilder, RepairReport, Stats, Vectors, VerifyReport
from mrlstore.wire import from_plain


class RemoteCare(RemoteIndex):
    """Long work runs on the server and reports its progress here; an error of the callback stops it."""

    @remote
    def stats(self) -> Request[Stats]:
        """The state of the store; `path` is empty, and `audit` is that of the process that answers."""
        return self._asking("stats", {}, lambda answer: from_plain(Stats, answer))

    @remote
    def warm(self) -> Request[None]:
        """Bring codes and graphs into the server's memory."""
        return self._asking("warm", {}, nothing)

    @followed
    def optimize(
        self, progress: ProgressCallback | None = None, timeout_s: float | None = None
    ) -> Request[None]:
        """Flush, merge and index everything committed before this call, as `Store.optimize`."""
        return self._changing("optimize", {"timeout_s": timeout_s}, nothing, progress)

    @followed
    def verify(self, progress: ProgressCallback | None = None) -> Request[VerifyReport]:
        """Check every checksum, range and cross-reference, as `Store.verify`; takes a key of an admin."""
        return self._changing("verify", {}, lambda answer: from_plain(VerifyReport, answer), progress)

    @followed
    def repair(
        self, progress: ProgressCallback | None = None, timeout_s: float | None = None
    ) -> Request[RepairReport]:
        """Rebuild damaged indexes and columns, as `Store.repair`; takes a key of an admin."""
        body = {"timeout_s": timeout_s}
        return self._changing("repair", body, lambda answer: from_plain(RepairReport, answer), progress)

    @followed
    def backup(self, dest: str, progress: ProgressCallback | None = None) -> Request[None]:
        """Keep the present content on the server, under the name `dest`; StoreExists if it is taken.

        `backups` lists them, `restore` makes a new index of one. Takes a key of an admin.
        """
        return self._changing("backups", {"name": dest}, nothing, progress)

    def backups(self) -> list[str]:
        """The names of the index's backups on the server, sorted."""
        read = Request("GET", f"{self._place}/backups", None, dict)
        return [backup["name"] for backup in self.transport.send(read)["backups"]]

    @followed
    def restore(self, backup: str, index: str) -> Request[None]:
        """Make a new index with the content of a backup; StoreExists if there is one of that name."""
        return self._changing(f"backups/{quote(backup, safe='')}/restore", {"index": index}, nothing)

    @remote
    def drop_backup(self, backup: str) -> Request[None]:
        """Remove a backup."""
        return Request("DELETE", f"{self._place}/backups/{quote(backup, safe='')}", None, nothing)

    @followed
    def calibrate(
        self,
        queries: Vectors | None = None,
        k: int | Iterable[int] = 10,
        *,
        namespace: str = "",
        count: int = QUERIES,
        progress: ProgressCallback | None = None,
    ) -> Request[Calibration]:
        """Learn how much effort gives which recall, as `Store.calibrate`."""
        body = {
            "queries": vectors_json(queries, "queries"),
            "k": list(k) if isinstance(k, Iterable) else k,
            "namespace": check_namespace(namespace),
            "count": count,
        }
        return self._changing("calibrate", body, lambda answer: from_plain(Calibration, answer), progress)

    @remote
    def audit(
        self,
        rate: float = 0.001,
        *,
        floor: float = 0.95,
        window: int = 1_000,
        cost: float = 0.05,
        learn: bool = False,
    ) -> Request[None]:
        """Check a share of live queries against exact answers, as `Store.audit`.

        Kept with the index: every process of the server checks its queries from its next ones on, also
        after a restart. Takes a key of an admin.
        """
        body = {"rate": rate, "floor": floor, "window": window, "cost": cost, "learn": learn}
        return self._changing("audit", body, nothing)

    @remote
    def drop_questions(self) -> Request[int]:
        """Delete the vectors of live questions that the audit has kept; gives how many there were."""
        return self._changing("drop_questions", {}, count_of)

    @followed
    def tier_report(
        self,
        queries: Vectors | None = None,
        k: int = 10,
        dims: Iterable[int] = DIMS,
        *,
        namespace: str = "",
        qrels: Qrels | None = None,
        by: str | None = None,
        count: int = 200,
        sample: int = 10_000,
        progress: ProgressCallback | None = None,
    ) -> Request[TierReport]:
        """Compare the lengths of prefixes, alone and in two stages, as `Store.tier_report`."""
        body: Mapping[str, Any] = {
            "queries": vectors_json(queries, "queries"),
            "k": k,
            "dims": list(dims),
            "namespace": check_namespace(namespace),
            "qrels": qrels,
            "by": by,
            "count": count,
            "sample": sample,
        }
        return self._changing("tier_report", body, lambda answer: from_plain(TierReport, answer), progress)

    @followed
    def set_prefix_dim(
        self,
        prefix_dim: int,
        progress: ProgressCallback | None = None,
        timeout_s: float | None = None,
    ) -> Request[None]:
        """Index another length of prefix, as `Store.set_prefix_dim`; takes a key of an admin."""
        body = {"prefix_dim": prefix_dim, "timeout_s": timeout_s}
        return self._changing("set_prefix_dim", body, nothing, progress)

    @followed
    def set_graph(
        self,
        graph: GraphBuilder,
        progress: ProgressCallback | None = None,
        timeout_s: float | None = None,
    ) -> Request[None]:
        """Have other software build the graphs, as `Store.set_graph`; takes a key of an admin."""
        return self._changing("set_graph", {"graph": graph, "timeout_s": timeout_s}, nothing, progress)
