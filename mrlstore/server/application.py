"""`create_app`: the ASGI application: all APIs behind one guard, over one folder of stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from mrlstore import telemetry
from mrlstore.kernels.prepare import prepare
from mrlstore.server import chroma, console, health, pinecone, qdrant, v1
from mrlstore.server.config import ServerConfig
from mrlstore.server.guards import Guard
from mrlstore.server.http_call import HttpCall
from mrlstore.server.http_spans import HttpSpans
from mrlstore.server.indexes import IndexRoot
from mrlstore.server.operations import Serving
from mrlstore.server.refusals import not_found


def create_app(config: ServerConfig) -> ASGIApp:
    """The application of a config.

    Raises:
        InvalidInput: the folder of the stores or the file of keys is wrong.
        ImportError: telemetry is wanted, and opentelemetry-api is not installed.
    """
    root = IndexRoot(
        config.root, open_stores=config.open_stores, read_only=config.read_only, threads=config.threads
    )
    serving = Serving(config, root)
    families = [api.api_family(serving) for api in (v1, qdrant, chroma, pinecone)]
    beside = [*health.routes(serving), *console.routes(serving)]

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        if config.telemetry:
            telemetry.instrument()
        prepare()  # before the server says that it is ready: the first query loads no kernels
        try:
            yield
        finally:
            serving.close()

    # One router for each API: to try the routes of all of them took a fifth of a query's time in the server.
    routers = [
        (family.prefix, _router(family.routes if family.prefix else [*family.routes, *beside]))
        for family in sorted(families, key=lambda family: -len(family.prefix))
    ]
    starting = Router(lifespan=lifespan)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await starting(scope, receive, send)
            return
        path: str = scope["path"]
        router = next(router for prefix, router in routers if path.startswith(prefix))
        scope["app"] = router  # so that a route raises what the guard writes in the shape of the API
        await router(scope, receive, send)

    open_paths = health.OPEN | v1.OPEN | qdrant.OPEN | chroma.OPEN | console.OPEN
    return Guard(app, config, families, open_paths, HttpSpans() if config.telemetry else None)


def _router(routes: Sequence[BaseRoute]) -> Router:
    return Router(routes, redirect_slashes=False, default=_no_route)


async def _no_route(scope: Scope, receive: Receive, send: Send) -> None:
    call = HttpCall.of(scope)
    hint = "; the console is at /console" if call.path == "/" else ""
    raise not_found(f"there is nothing at {call.method} {call.path:.200}{hint}")
