"""A GraphRAG service as anybody writes it: nothing in it knows of Redis, or of this package."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from nano_graphrag import GraphRAG, QueryParam


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """A GraphRAG for as long as the worker lives."""
    app.state.rag = GraphRAG(working_dir=os.environ["WORKING_DIR"], enable_naive_rag=True)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/ask")
async def ask(request: Request, question: str) -> dict[str, Any]:
    """The answer, and which worker gave it."""
    answer = await request.app.state.rag.aquery(question, QueryParam(mode="local"))
    return {"answer": answer, "worker": os.getpid()}
