"""The server: stores under one folder, behind HTTP, for clients of other databases and for its own.

`create_app` gives the ASGI application of a `ServerConfig`; `mrlstore.server:app` is that of the environment
variables `MRLSTORE_*`, for servers such as `uvicorn mrlstore.server:app`. `mrlstore serve ROOT` and
`python -m mrlstore.server ROOT` run it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import orjson  # noqa: F401
    import prometheus_client  # noqa: F401
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    raise ImportError(f"the server needs {error.name}: pip install 'mrlstore[server]'") from error

from mrlstore.server.application import create_app
from mrlstore.server.config import ServerConfig

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    app: ASGIApp

__all__ = ["ServerConfig", "app", "create_app"]


def __getattr__(name: str) -> Any:
    """`app`, made at its first use, since it reads the environment and looks at the folder of the stores."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = made = create_app(ServerConfig.from_environment())
    return made
