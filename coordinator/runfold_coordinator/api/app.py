"""Builds the HTTP application: the gate in front, routes per noun behind. In: a Backend; out: an ASGI app."""

from __future__ import annotations

from dataclasses import replace

from fastapi import FastAPI

from runfold_coordinator.api import (
    routes_alerts,
    routes_artifact_collections,
    routes_artifacts,
    routes_blobs,
    routes_catalogue,
    routes_console,
    routes_edits,
    routes_files,
    routes_groups,
    routes_intake,
    routes_metrics,
    routes_nodes,
    routes_pages,
    routes_resume,
    routes_runs,
    routes_stop,
)
from runfold_coordinator.api.backend import Backend
from runfold_coordinator.api.errors import install_error_answers
from runfold_coordinator.api.fresh_summaries import FreshSummaries
from runfold_coordinator.api.gate import Gate
from runfold_coordinator.api.turns import Turns
from runfold_coordinator.metrics.http_counts import CountingRequests
from runfold_coordinator.readers.resume_reader import ResumeReader

OPENAPI_PATH = "/api/v1/openapi.json"


def create_app(backend: Backend) -> FastAPI:
    """Return the application. It owns nothing: who made the backend closes it."""
    app = FastAPI(
        title="runfold",
        version="1",
        description="Runs of distributed training: states, histories, series, summaries, groups.",
        openapi_url=OPENAPI_PATH,
        docs_url=None,  # FastAPI's pages load scripts from a CDN, which our policy forbids
        redoc_url=None,
    )
    app.state.backend = replace(backend, summaries=FreshSummaries(backend.summaries))
    app.state.resumes = ResumeReader(backend.store, app.state.backend.summaries)
    app.state.turns = Turns()
    install_error_answers(app)
    for routes in (
        routes_intake,
        routes_catalogue,
        routes_runs,
        routes_resume,
        routes_console,
        routes_stop,
        routes_edits,
        routes_blobs,
        routes_files,
        routes_artifact_collections,  # before the routes with an id in the place of "collections"
        routes_artifacts,
        routes_alerts,
        routes_groups,
        routes_nodes,
        routes_metrics,
        routes_pages,
    ):
        app.include_router(routes.router)
    app.add_middleware(Gate, policy=backend.gate)
    # Around the gate: what it refuses counts too.
    app.add_middleware(CountingRequests, counts=backend.metrics.http)
    return app
