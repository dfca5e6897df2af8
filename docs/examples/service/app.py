"""A search service: FastAPI in front of a store that all worker processes share.

    MRLSTORE_PATH=papers.mrl uvicorn app:app --workers 4

Each worker opens the store for itself when it starts. What one writes is seen by the next request of all.
"""

import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

import mrlstore

Vector = list[float] | str  # numbers, or float32 (little-endian) in base64: a quarter of the bytes and time


class Row(BaseModel):
    id: str
    vector: Vector
    metadata: dict[str, Any] | None = None
    document: str | None = None


class Rows(BaseModel):
    rows: list[Row] = Field(max_length=1000)
    namespace: str = ""


class Question(BaseModel):
    vector: Vector
    k: int = Field(default=10, ge=1, le=100)
    where: dict[str, Any] | None = None
    namespace: str = ""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with mrlstore.open(os.environ["MRLSTORE_PATH"]) as store:
        store.warm()  # now, so that no request waits for the kernels
        app.state.store = store
        yield


app = FastAPI(title="papers", lifespan=lifespan)


def numbers(vector: Vector) -> Any:
    """What the store takes as a vector."""
    if not isinstance(vector, str):
        return vector
    try:
        return np.frombuffer(base64.b64decode(vector, validate=True), dtype="<f4")
    except ValueError as error:
        raise HTTPException(422, f"vector: not float32 in base64: {error}") from error


def store_of(request: Request) -> mrlstore.Store:
    store: mrlstore.Store = request.app.state.store
    return store


@app.exception_handler(mrlstore.InvalidInput)
@app.exception_handler(mrlstore.LimitExceeded)
async def refused(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=422)


@app.exception_handler(mrlstore.StoreLocked)
async def busy(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=503, headers={"Retry-After": "1"})


@app.post("/search")
async def search(question: Question, request: Request) -> dict[str, Any]:
    result = await store_of(request).aquery(
        numbers(question.vector), question.k, where=question.where, namespace=question.namespace
    )
    hits = [{"id": hit.id, "score": hit.score, "metadata": hit.metadata} for hit in result]
    return {"hits": hits, "generation": result.plan.generation}


@app.put("/rows")
async def put_rows(body: Rows, request: Request) -> dict[str, int]:
    """Store rows, all of them or none; they are on disk when this answers."""
    written = await store_of(request).aupsert(
        [row.id for row in body.rows],
        [numbers(row.vector) for row in body.rows],
        [row.metadata for row in body.rows],
        [row.document for row in body.rows],
        namespace=body.namespace,
    )
    return {"written": written}


@app.get("/rows/{row_id:path}")
async def get_row(row_id: str, request: Request, namespace: str = "") -> dict[str, Any]:
    found = await store_of(request).aget([row_id], namespace=namespace)
    if not found:
        raise HTTPException(404, f"no row {row_id!r}")
    return {"id": row_id, "metadata": found[0].metadata, "document": found[0].document}


@app.delete("/rows/{row_id:path}")
async def delete_row(row_id: str, request: Request, namespace: str = "") -> dict[str, int]:
    return {"deleted": await store_of(request).adelete([row_id], namespace=namespace)}


@app.get("/stats")
def stats(request: Request) -> dict[str, Any]:  # not async: FastAPI runs it in a thread
    return asdict(store_of(request).stats())


@app.get("/health")
async def health(request: Request) -> dict[str, int]:
    return {"rows": await store_of(request).acount(namespace=None), "worker": os.getpid()}
