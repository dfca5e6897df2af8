"""The methods of `Store` that measure recall; they check their arguments and delegate."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from mrlstore import checks
from mrlstore.api.arguments import ProgressCallback, check_job
from mrlstore.api.handle import Handle
from mrlstore.catalogue import rows
from mrlstore.checks import check_namespace
from mrlstore.errors import InvalidInput
from mrlstore.maintenance import steps
from mrlstore.recall.audit import Audit, unaudited
from mrlstore.recall.defaults import DIMS, QUERIES
from mrlstore.search.queries import take_units
from mrlstore.storage.session import Session
from mrlstore.system.job import Job, callback_errors
from mrlstore.system.late import LateModule
from mrlstore.types import GraphBuilder, Vectors

if TYPE_CHECKING:
    from mrlstore.recall import calibrate, live_questions, tiers
    from mrlstore.recall.calibrate import Calibration
    from mrlstore.recall.tiers import TierReport
else:
    calibrate, tiers = LateModule("mrlstore.recall.calibrate"), LateModule("mrlstore.recall.tiers")
    live_questions = LateModule("mrlstore.recall.live_questions")


class RecallMethods(Handle):
    """Measuring recall on the store's own data, and choosing by it."""

    _auditing: tuple[float, float, int, float] | None = None  # rate, floor, window, cost
    _learning = False

    @callback_errors()
    def calibrate(
        self,
        queries: Vectors | None = None,
        k: int | Iterable[int] = 10,
        *,
        namespace: str = "",
        count: int = QUERIES,
        progress: ProgressCallback | None = None,
    ) -> Calibration:
        """Learn how much effort gives which recall on this store, and keep it for `query(target_recall=...)`.

        This runs by itself when a store is first indexed, and when `optimize` or background maintenance finds
        that 3% of the rows are new or gone. Call it if you have real queries, or want results for another k.

        Args:
            queries: numbers [q, dim], a few hundred of those that will be asked; None takes the live
                questions that `audit(learn=True)` has kept, if there are 100, and else makes questions of
                stored rows: the rows, each left out of its own answer with its near copies, and points beyond
                them, which lie as far from the rows as people's questions do.
            k: one, or several, 1 to 1,000.
            namespace: which one the queries are for; stored rows come from the largest.
            count: how many questions to make of stored rows.
            progress: called with how much is done.

        Returns:
            The curves, durable; what the queries show that stored rows do not is in `.warnings`.

        Raises:
            InvalidInput: arguments are wrong, the store is read only or has no vectors.
        """
        session = self._writable()
        ks = sorted(set(checks.check_counts(k if isinstance(k, Iterable) else (k,), "k", 1, 1_000)))
        if not ks:
            raise InvalidInput("k: give at least one")
        checks.check_count(count, "count", 10, 100_000)
        dim = session.snapshots.latest().dim
        if dim is None:
            raise InvalidInput("calibrate: the store has no vectors yet")
        units = None if queries is None else check_queries(queries, dim)
        check_namespace(namespace)
        job = check_job(progress)
        return calibrate.calibrate(session, units, ks, namespace=namespace, count=count, job=job)

    def audit(
        self,
        rate: float = 0.001,
        *,
        floor: float = 0.95,
        window: int = 1_000,
        cost: float = 0.05,
        learn: bool = False,
    ) -> None:
        """Check a share of live queries against exact answers, in a background thread; results in `stats()`.

        Args:
            rate: the share of queries to check, from 0 (off) to 1.
            floor: a recall; when the whole interval lies below it, a warning is logged (logger "mrlstore").
            window: how many of the last checked queries count, for each k.
            cost: the largest share of one core that the checks may take; queries beyond it are not checked.

            learn: keep the vectors of the checked queries in the store, the newest 1,000, and measure the
                calibration curves with them once there are 100, and again after every 200 new ones. So
                targets hold for what people ask of this store. See `drop_questions`, docs/security.md.

        Exact queries are not checked. It is a setting of this object, not of the store on disk; the questions
        that it keeps are shared by all processes. Raises InvalidInput when an argument is out of range, or
        for learn=True on a store opened with mode="r".
        """
        shares = [
            checks.check_share(value, name)
            for value, name in ((rate, "rate"), (floor, "floor"), (cost, "cost"))
        ]
        if shares[2] == 0:
            raise InvalidInput("cost: must be above 0")
        session = self._writable() if learn else self._session
        before = session.audit
        window = checks.check_count(window, "window", 1, 1_000_000)
        self._auditing = (shares[0], shares[1], window, shares[2]) if shares[0] else None
        self._learning = learn
        if before is not None:
            before.stop()  # first: once replaced, nobody could end its thread
        session.audit = self._new_audit(session)

    def drop_questions(self) -> int:
        """Delete the vectors of live questions that `audit(learn=True)` has kept; gives how many there were.

        When it returns they are off the disk: their pages are overwritten, and the write-ahead log is cut
        unless another process is reading. Curves that were measured with them stay until the next
        calibration; they hold no vectors. Raises InvalidInput on a store opened with mode="r".
        """
        return live_questions.drop(self._writable())

    @callback_errors()
    def tier_report(
        self,
        queries: Vectors | None = None,
        k: int = 10,
        dims: Iterable[int] = DIMS,
        *,
        namespace: str = "",
        qrels: tiers.Qrels | None = None,
        by: str | None = None,
        count: int = 200,
        sample: int = 10_000,
        progress: ProgressCallback | None = None,
    ) -> TierReport:
        """Compare the lengths of prefixes, alone and in two stages, on this store's own data.

        Args:
            queries: numbers [q, dim]; None takes stored rows, each left out of its own answer.
            k: how many results the comparison is for, 1 to 1,000.
            dims: the tiers; those beyond the store's dim are left out, its prefix_dim and dim are added.
            namespace: whose rows.
            qrels: relevance judgements {number of the query: {id: grade}}, for nDCG@k; only with queries. The
                sample is then the whole namespace.
            by: "namespace" or a metadata field: recall for each of its values besides.
            count: how many stored rows to take as queries.
            sample: on how many rows, at most, graphs are built and latencies measured.
            progress: called with how much is done.

        Returns:
            Recall with intervals, latency, queries per second and bytes for every tier, and a recommendation
            in words; `.save("report.html")` writes it, see docs/tiers.md.
        """
        session = self._session
        dim = session.snapshots.latest().dim
        if dim is None:
            raise InvalidInput("tier_report: the store has no vectors yet")
        _check_qrels(qrels, queries)
        if by is not None and not isinstance(by, str):
            raise InvalidInput(f'by: expected a metadata field or "namespace", got {type(by).__name__}')
        job = check_job(progress)
        k = checks.check_count(k, "k", 1, 1_000)
        lengths = checks.check_counts(dims, "dims", 1)
        units = None if queries is None else check_queries(queries, dim)

        def answer(query: NDArray[np.float32], count: int, target: float) -> tuple[list[int], float]:
            with unaudited():
                started = time.perf_counter()
                ids = self._nearest_ids(query, count, namespace, target)
                elapsed = time.perf_counter() - started
            with session.catalogue.read() as connection:
                return [row.key for row in rows.by_id(connection, namespace, ids)], elapsed

        return tiers.tier_report(
            session, units, k, lengths, namespace=check_namespace(namespace), qrels=qrels, by=by,
            count=checks.check_count(count, "count", 10, 10_000),
            sample=checks.check_count(sample, "sample", 100, 1_000_000),
            answer=answer, job=job,
        )  # fmt: skip

    @callback_errors()
    def set_prefix_dim(
        self,
        prefix_dim: int,
        progress: ProgressCallback | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Index another length of prefix: codes and graphs are rebuilt from the stored vectors, in place.

        The store is read and written meanwhile: each segment is searched by its old index until the new one,
        built beside it, takes its place. After a crash `optimize`, background work or this call goes on with
        what is left. When it returns, all segments have changed and calibration has run again. Vectors are
        neither copied nor embedded anew. Raises InvalidInput, and StoreLocked as `optimize` does.
        """
        session = self._writable()
        dim = session.snapshots.latest().dim
        if dim is None:
            raise InvalidInput("set_prefix_dim: the store has no vectors yet; open it with prefix_dim=")
        wanted = checks.check_count(prefix_dim, "prefix_dim", 1, dim)
        job = check_job(progress, timeout_s)
        with self._background_paused():
            steps.set_prefix_dim(session, wanted, job)

    @callback_errors()
    def set_graph(
        self,
        graph: GraphBuilder,
        progress: ProgressCallback | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Have other software build the store's graphs, and build all of them anew, in place.

        `graph` is "mrlstore" or "hnswlib", see docs/graphs.md. Queries and writes go on meanwhile, and a
        crash is made good, as with `set_prefix_dim`. When it returns, all graphs are by this builder and
        calibration has run again. Every process that indexes this store then needs the builder. Raises
        InvalidInput, ImportError where hnswlib is not installed, and StoreLocked as `optimize` does.
        """
        session = self._writable()
        checks.check_choice(graph, "graph", get_args(GraphBuilder))
        job = check_job(progress, timeout_s)
        with self._background_paused():
            steps.set_graph(session, graph, job)

    def _nearest_ids(
        self, vector: NDArray[np.float32], k: int, namespace: str, target_recall: float
    ) -> list[str]:
        """The ids that `query` finds for a vector; Store has it, and with it the whole path of a query."""
        raise NotImplementedError

    def _prepare(self, session: Session) -> None:
        super()._prepare(session)
        session.audit = self._new_audit(session)  # a forked child goes on auditing

    def _new_audit(self, session: Session) -> Audit | None:
        if self._auditing is None:
            return None

        def measure(job: Job) -> None:
            ks = sorted({curve.k for curve in session.snapshots.latest().calibration.curves})
            calibrate.calibrate(session, None, ks or (calibrate.DEFAULT_K,), job=job)

        learner = live_questions.LiveQuestions(session, measure) if self._learning else None
        return Audit(str(self.path), *self._auditing, learner)


def _check_qrels(qrels: object, queries: object) -> None:
    """Judgements of queries that are given: grades of ids, or None."""
    if qrels is None:
        return
    if queries is None:
        raise InvalidInput("qrels: need the queries that they judge")
    if not isinstance(qrels, Mapping) or not all(isinstance(one, Mapping) for one in qrels.values()):
        raise InvalidInput("qrels: expected {number of the query: {id: grade}}")
    for grades in qrels.values():
        for grade in grades.values():
            checks.check_number(grade, "qrels")


def check_queries(queries: Any, dim: int) -> NDArray[np.float32]:
    """At least two query vectors, float32 [q, dim], of unit length."""
    units = take_units(queries, dim, "queries")
    if len(units) < 2:
        raise InvalidInput("queries: give at least two, better a few hundred")
    return units
