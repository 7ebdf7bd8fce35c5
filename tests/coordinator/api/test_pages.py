"""The page comes from our origin alone, and no script of ours parses a user's text as HTML."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from coordinator.api.asgi import AsgiClient
from runfold_coordinator.api.gate import GatePolicy

PAGES = Path(str(resources.files("runfold_coordinator.api"))) / "pages"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/e/p/runs/any%20id", "text/html"),
        ("/static/runs.js", "text/javascript"),
        ("/static/run.js", "text/javascript"),
        ("/static/run_files.js", "text/javascript"),
        ("/static/page.css", "text/css"),
        ("/static/icon.svg", "image/svg+xml"),
    ],
)
def test_pages_and_their_parts_are_served(client: AsgiClient, path: str, kind: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("name", ["..%2fapp.py", "app.py", "runs.html", ".", "%2e%2e/errors.py", "x"])
def test_nothing_else_of_the_folder_is_served(client: AsgiClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_pages_load_nothing_from_elsewhere_and_have_no_inline_code() -> None:
    for page in PAGES.glob("*.html"):
        text = page.read_text()
        assert not re.search(r"(src|href)=\"(?!/)", text), page
        assert not re.search(r"\son\w+=|\sstyle=|<style|<script>", text), page
        for part in re.findall(r"(?:src|href)=\"/static/([^\"]+)\"", text):
            assert (PAGES / part).exists()


def test_scripts_never_parse_text_as_html() -> None:
    for script in PAGES.glob("*.js"):
        text = script.read_text()
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "DOMParser",
        ):
            assert word not in text, (script, word)


def test_a_runs_page_may_be_framed_by_notebooks_here_and_by_nobody_else(client: AsgiClient) -> None:
    plain, framed = client.get("/e/p/runs/r"), client.get("/e/p/runs/r?jupyter=true")
    assert "frame-ancestors 'none'" in plain.headers["content-security-policy"]
    assert plain.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'self' http://localhost:*" in framed.headers["content-security-policy"]
    assert "script-src 'self'" in framed.headers["content-security-policy"]
    assert "x-frame-options" not in framed.headers
    other = client.get("/api/v1/runs/e/p/r?jupyter=true")
    assert "frame-ancestors 'none'" in other.headers["content-security-policy"]


@pytest.mark.parametrize(
    "text", ["lab", "https://a/b", "https://a; script-src *", "javascript:x", "https://a b", "*"]
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no origin"):
        GatePolicy.for_address("127.0.0.1", notebooks=f"https://hub.example.com, {text}")


def test_notebooks_elsewhere_may_be_named() -> None:
    policy = GatePolicy.for_address("127.0.0.1", notebooks="https://hub.example.com,http://lab:8888")
    assert policy.framed_by.endswith("https://hub.example.com http://lab:8888")
