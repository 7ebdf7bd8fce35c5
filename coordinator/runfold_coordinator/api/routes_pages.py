"""The plain web page: a list of runs and a page per run, static files that fetch the API of their origin."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter, Depends, Request, Response

from runfold_coordinator.api.errors import NotFoundError
from runfold_coordinator.api.gate import MAY_BE_FRAMED, require_admission

router = APIRouter(tags=["pages"], include_in_schema=False, dependencies=[Depends(require_admission)])

#: What is served, and as what. Nothing else of the folder can be asked for.
_FILES = {
    "runs.js": "text/javascript",
    "run.js": "text/javascript",
    "run_files.js": "text/javascript",
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
}


@router.get("/")
def runs_page() -> Response:
    """Serve the list of runs."""
    return _file("runs.html", "text/html")


@router.get("/{entity}/{project}/runs/{run_id}")
def run_page(
    request: Request,
    entity: str,  # noqa: ARG001 - the script reads the address
    project: str,  # noqa: ARG001 - same
    run_id: str,  # noqa: ARG001 - same
    jupyter: bool = False,
) -> Response:
    """Serve a run's page, whose script reads which run from the address; with `jupyter` for a notebook."""
    request.scope[MAY_BE_FRAMED] = jupyter
    return _file("run.html", "text/html")


@router.get("/static/{name}")
def static_file(name: str) -> Response:
    """Serve a script or a style sheet."""
    if name not in _FILES:
        raise NotFoundError("no_such_file", "no such file", field="name")
    return _file(name, _FILES[name])


@router.get("/{entity}/{project}")
def project_page(entity: str, project: str) -> Response:  # noqa: ARG001 - the script reads the address
    """Serve the list of a project's runs."""
    return _file("runs.html", "text/html")


@router.get("/{entity}/{project}/sweeps/{sweep_id}")
def sweep_page(entity: str, project: str, sweep_id: str) -> Response:  # noqa: ARG001 - as above
    """Serve the list of a sweep's runs."""
    return _file("runs.html", "text/html")


def _file(name: str, media_type: str) -> Response:
    content = resources.files("runfold_coordinator.api").joinpath("pages", name).read_bytes()
    return Response(content, media_type=f"{media_type}; charset=utf-8", headers={"Cache-Control": "no-cache"})
