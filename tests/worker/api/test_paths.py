"""Paths as people type them."""

from __future__ import annotations

import pytest

from runfold.api import RequestError
from runfold.api.paths import Defaults, parse_group_path, parse_project_path, parse_run_path, route

DEFAULTS = Defaults("local", "uncategorized")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("e/p/r", ("e", "p", "r")),
        ("p/r", ("local", "p", "r")),
        ("r", ("local", "uncategorized", "r")),
        ("/e/p/r/", ("e", "p", "r")),
        ("e/p/runs/r", ("e", "p", "r")),
        ("http://127.0.0.1:8765/e/p/runs/r?x=1", ("e", "p", "r")),
    ],
)
def test_a_run_is_found_by_what_people_type(path: str, expected: tuple[str, ...]) -> None:
    assert parse_run_path(path, DEFAULTS) == expected


@pytest.mark.parametrize("path", ["", "/", "a/b/c/d", "a/b/c/d/e"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(RequestError, match="path"):
        parse_run_path(path, DEFAULTS)


def test_projects_and_groups_have_defaults_too() -> None:
    assert parse_project_path(None, DEFAULTS) == ("local", "uncategorized")
    assert parse_project_path("p", DEFAULTS) == ("local", "p")
    assert parse_project_path("e/p", DEFAULTS) == ("e", "p")
    assert parse_group_path("g", DEFAULTS) == ("local", "uncategorized", "g")
    assert parse_group_path("p/g", DEFAULTS) == ("local", "p", "g")
    assert parse_group_path("e/p/g/with/slashes", DEFAULTS) == ("e", "p", "g/with/slashes")
    with pytest.raises(RequestError):
        parse_project_path("a/b/c", DEFAULTS)
    with pytest.raises(RequestError):
        parse_group_path("", DEFAULTS)


def test_parts_of_a_route_are_quoted_whole() -> None:
    assert route("runs", "a b", "ü%", "..") == "/runs/a%20b/%C3%BC%25/%2E%2E"
