"""The methods of `Store` that a cluster refuses: each says why, and what to do instead."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from mrlstore.errors import InvalidInput

_EXPORT: Final = "mrlstore.cluster.export_store makes one store of the cluster, which has it"


class OnlyInStores:
    """Raises InvalidInput for what one store can do and many shards cannot."""

    @property
    def generation(self) -> int:
        """Refused: each copy of a shard has generations of its own, and answers have a token."""
        _refuse("generation", "each copy of a shard has generations of its own; take the token of an answer")

    def backup(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: object storage has all rows; `export_store` makes one store of them."""
        _refuse("backup", f"object storage has all rows; {_EXPORT}")

    def ship(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: a cluster lies in object storage already."""
        _refuse("ship", "a cluster lies in object storage already; snapshot() ships one now")

    def repair(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: a damaged copy is dropped, and restored from object storage, by itself."""
        _refuse(
            "repair",
            "a damaged copy is dropped and restored by itself; mrlstore.cluster.verify checks object storage",
        )

    def set_graph(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: it is fixed when a cluster is created."""
        _refuse("set_graph", "it is fixed when a cluster is created; export, and import with other settings")

    def set_prefix_dim(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: it is fixed when a cluster is created."""
        _refuse(
            "set_prefix_dim", "it is fixed when a cluster is created; export, and import with other settings"
        )

    def calibrate(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: each shard calibrates itself when its graphs are built."""
        _refuse("calibrate", f"each shard calibrates itself, as optimize() does; {_EXPORT}")

    def audit(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: it compares the answers of one store; queries with `exact=True` compare too."""
        _refuse("audit", f"it watches one store; compare with exact=True, or: {_EXPORT}")

    def drop_questions(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: a cluster keeps no questions, since it has no audit."""
        _refuse("drop_questions", "a cluster has no audit, and keeps no questions")

    def tier_report(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: it measures one store."""
        _refuse("tier_report", f"it measures one store; {_EXPORT}")

    def duplicates(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: rows of one group may lie in several shards."""
        _refuse("duplicates", f"rows of one group may lie in several shards; {_EXPORT}")

    def export_hnswlib(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: an index of hnswlib is that of one store."""
        _refuse("export_hnswlib", f"an index of hnswlib is that of one store; {_EXPORT}")


def _refuse(name: str, why: str) -> NoReturn:
    raise InvalidInput(f"{name}: not for a cluster: {why}")
