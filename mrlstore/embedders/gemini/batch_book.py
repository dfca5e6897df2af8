"""Which batch jobs exist, and which contents wait for them: two tables in the file of the embedding cache."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mrlstore.embedders.cache import EmbeddingCache

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batch_jobs(label TEXT PRIMARY KEY, name TEXT, tokens TEXT NOT NULL, upload TEXT);
CREATE TABLE IF NOT EXISTS batch_waiting(key BLOB PRIMARY KEY, label TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class BookedJob:
    """One job: its label, the service's name for it once it is created, and the name of its upload."""

    label: str
    name: str | None
    upload: str | None
    tokens: str  # JSON: estimated tokens by modality


class BatchBook:
    """Jobs and the contents that wait for them, each change durable when it returns."""

    def __init__(self, cache: EmbeddingCache) -> None:
        self._cache = cache
        for statement in _SCHEMA.strip().splitlines():
            cache.execute(statement)
        columns = {row[1] for row in cache.execute("PRAGMA table_info(batch_jobs)")}
        if "upload" not in columns:  # a file of an earlier version
            cache.execute("ALTER TABLE batch_jobs ADD COLUMN upload TEXT")

    def begin(self, keys: Sequence[bytes], tokens: Mapping[str, int]) -> BookedJob:
        """Write down a job that is about to be uploaded, and the contents that wait for it."""
        job = BookedJob(f"mrlstore-{uuid.uuid4().hex}", None, None, json.dumps(tokens))
        sql = "INSERT INTO batch_jobs(label, name, tokens, upload) VALUES(?, NULL, ?, NULL)"
        self._cache.execute(sql, (job.label, job.tokens))
        rows = [(key, job.label) for key in keys]
        self._cache.execute_many("INSERT OR REPLACE INTO batch_waiting VALUES(?, ?)", rows)
        return job

    def uploaded(self, job: BookedJob, upload: str) -> BookedJob:
        """Note the name of a job's upload."""
        self._cache.execute("UPDATE batch_jobs SET upload = ? WHERE label = ?", (upload, job.label))
        return replace(job, upload=upload)

    def created(self, job: BookedJob, name: str) -> None:
        """Note the service's name of a job."""
        self._cache.execute("UPDATE batch_jobs SET name = ? WHERE label = ?", (name, job.label))

    def jobs(self) -> list[BookedJob]:
        """All jobs, in the order in which they were begun."""
        sql = "SELECT label, name, upload, tokens FROM batch_jobs ORDER BY rowid"
        return [BookedJob(*row) for row in self._cache.execute(sql)]

    def waiting(self) -> dict[bytes, str]:
        """The cache keys of the contents that wait, and the label of the job of each."""
        return dict(self._cache.execute("SELECT key, label FROM batch_waiting"))

    def count(self, label: str) -> int:
        """How many contents wait for a job."""
        [(count,)] = self._cache.execute("SELECT count(*) FROM batch_waiting WHERE label = ?", (label,))
        return int(count)

    def forget(self, label: str) -> int:
        """Remove a job and the contents that wait for it; return how many those were."""
        count = self.count(label)
        self._cache.execute("DELETE FROM batch_waiting WHERE label = ?", (label,))
        self._cache.execute("DELETE FROM batch_jobs WHERE label = ?", (label,))
        return count
