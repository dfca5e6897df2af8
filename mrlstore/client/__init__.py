"""A store that a server keeps: `connect` gives a `RemoteStore`, with the methods of `Store`."""

try:
    import httpx  # noqa: F401
except ImportError as error:
    raise ImportError("the client of a server needs httpx: pip install 'mrlstore[client]'") from error

from mrlstore.client.connecting import connect
from mrlstore.client.remote_store import RemoteStore

__all__ = ["RemoteStore", "connect"]
