"""The tables of catalogue.db. The keyword index is made in `keywords`, because it depends on the settings."""

from __future__ import annotations

FORMAT_VERSION = 6
PAGE_BYTES = 8192
APPLICATION_ID = 0x4D524C31  # "MRL1"

# auto_vacuum and page_size take effect only in a database without tables.
PREPARE = f"""
PRAGMA page_size = {PAGE_BYTES};
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
"""

# The column `bare` is 1 for rows without a vector; in `namespaces` it counts them.
TABLES = """
CREATE TABLE settings(name TEXT PRIMARY KEY, value ANY, crc INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE namespaces(
    name TEXT PRIMARY KEY, rows INTEGER NOT NULL, bare INTEGER NOT NULL, crc INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE rows(
    key INTEGER PRIMARY KEY, namespace TEXT NOT NULL, id TEXT NOT NULL, bare INTEGER NOT NULL,
    metadata TEXT, document TEXT, crc INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX rows_by_id ON rows(namespace, id);
CREATE INDEX rows_bare ON rows(namespace, id) WHERE bare = 1;
CREATE TABLE tail(
    key INTEGER PRIMARY KEY, vector BLOB NOT NULL, norm REAL NOT NULL, gen INTEGER NOT NULL,
    crc INTEGER NOT NULL
) STRICT;
CREATE INDEX tail_by_gen ON tail(gen);
CREATE TABLE removed(
    gen INTEGER NOT NULL, key INTEGER NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY(gen, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE segments(
    id INTEGER PRIMARY KEY AUTOINCREMENT, gen INTEGER NOT NULL, built_gen INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    base TEXT NOT NULL, base_crc INTEGER NOT NULL, base_damaged INTEGER NOT NULL,
    idx TEXT, idx_crc INTEGER, idx_damaged INTEGER NOT NULL,
    columns TEXT, columns_crc INTEGER, columns_damaged INTEGER NOT NULL,
    crc INTEGER NOT NULL
) STRICT;
CREATE TABLE calibration(
    k INTEGER NOT NULL, class TEXT NOT NULL, value TEXT NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY(k, class)
) STRICT, WITHOUT ROWID;
"""
