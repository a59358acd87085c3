"""The service: ``uvicorn examples.service.app:app --workers 4``, with one GraphRAG per worker."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from nano_graphrag import GraphRAG, QueryParam
from prometheus_client import make_asgi_app

import nano_graphrag_redis
import nano_graphrag_redis.metrics

WORKING_DIR = os.environ.get("WORKING_DIR", "./cache")

nano_graphrag_redis.register()  # in every worker: uvicorn starts each in a fresh interpreter


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Creates one GraphRAG for the life of the worker; its stores share their connections."""
    rag = GraphRAG(working_dir=WORKING_DIR)
    app.state.rag = rag
    yield
    stores = (rag.full_docs, rag.text_chunks, rag.community_reports, rag.llm_response_cache)
    await asyncio.gather(*(store.close() for store in stores))


app = FastAPI(lifespan=lifespan)
nano_graphrag_redis.metrics.register()
app.mount("/metrics", make_asgi_app())  # of the worker that is asked


@app.get("/ask")
async def ask(
    request: Request, question: str, mode: Literal["local", "global"] = "local"
) -> dict[str, Any]:
    """The answer, and which worker gave it."""
    answer = await request.app.state.rag.aquery(question, QueryParam(mode=mode))
    return {"answer": answer, "worker": os.getpid()}


@app.get("/livez")
async def livez() -> dict[str, bool]:
    """That this worker runs. It asks nobody: an outage of Redis is no reason to restart it."""
    return {"alive": True}


@app.get("/readyz")
async def readyz(request: Request, response: Response) -> dict[str, bool]:
    """Whether Redis answers; a load balancer asks no worker for whom it does not."""
    answers = await request.app.state.rag.full_docs.check_health()
    if not answers:
        response.status_code = 503
    return {"redis": answers}
