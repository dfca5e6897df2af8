"""The catalogue: one SQLite database in WAL mode, the truth for everything but the numbers in parts.

Its transaction is the only commit point of a store. `catalogue` owns the connections, `connection` opens
them and translates errors, `schema` knows the tables; `settings`, `rows`, `tail` and `segments` are plain
functions on a connection inside somebody's transaction. Every row carries a crc32 and is checked when read.
"""

from mrlstore.catalogue.catalogue import Catalogue, Write

__all__ = ["Catalogue", "Write"]
