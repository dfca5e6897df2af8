"""The catalogue: one SQLite database in WAL mode, the truth for everything but the numbers in parts.

Its transaction is the only commit point of a store. `catalogue` has the transactions, `connections` the
connections of this process, `connection` opens one and translates errors, `schema` has the tables. Each other
module is one table: plain functions on a connection, called inside a transaction of the caller. Every row of
every table carries a crc32 and is checked when it is read.
"""

from mrlstore.catalogue.catalogue import Catalogue, Write

__all__ = ["Catalogue", "Write"]
