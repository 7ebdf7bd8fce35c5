"""Lazy lists: what is asked of the server for which place, and that slices are those of a list."""

from __future__ import annotations

from typing import Any, cast

import pytest

from runfold.api.connection import Connection
from runfold.api.errors import RequestError
from runfold.api.pages import Pages

COUNT = 10


class Numbers:
    """Serves 0..9, some at a time, as routes of lists do."""

    def __init__(self) -> None:
        self.asked = 0

    def get(self, _path: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        start = int(parameters["cursor"] or 0)
        end = min(COUNT, start + parameters["limit"])
        items = [{"n": n} for n in range(start, end)]
        return {"numbers": items, "next_cursor": str(end) if end < COUNT else None}


def numbers(server: Numbers, per_page: int = 3) -> Pages[int]:
    connection = cast("Connection", server)
    return Pages(connection, "/numbers", {}, "numbers", lambda each: int(each["n"]), per_page=per_page)


@pytest.mark.parametrize(
    "places",
    [
        *(slice(0, 2), slice(2, 2), slice(0, 0), slice(4, 2), slice(None), slice(3, None), slice(-2, None)),
        *(slice(None, -3), slice(8, 2, -1), slice(None, None, -1), slice(1, 9, 3), slice(5, 100)),
    ],
)
def test_a_slice_is_that_of_the_whole_list(places: slice) -> None:
    assert numbers(Numbers())[places] == list(range(COUNT))[places]


def test_pages_are_fetched_as_they_are_reached() -> None:
    server = Numbers()
    found = numbers(server)
    assert found[0:2] == [0, 1]
    assert (server.asked, found.more) == (1, True)
    assert found[3] == 3
    assert server.asked == 2
    assert (found[-1], len(found), server.asked, found.more) == (9, COUNT, 4, False)
    assert list(found) == list(range(COUNT))
    assert server.asked == 4


def test_a_place_that_is_not_there_is_an_index_error_that_tells_how_many_there_are() -> None:
    with pytest.raises(IndexError, match="there are 10 numbers"):
        numbers(Numbers())[10]


@pytest.mark.parametrize("per_page", [0, -1, 1.5, True, "3"])
def test_a_page_has_a_whole_number_of_items(per_page: Any) -> None:
    with pytest.raises(RequestError, match="per_page"):
        numbers(Numbers(), per_page)


def test_items_that_are_the_same_are_listed_once_over_all_pages() -> None:
    connection = cast("Connection", Numbers())
    found = Pages(
        connection,
        "/",
        {},
        "numbers",
        lambda each: int(each["n"]),
        per_page=3,
        once=lambda each: each["n"] % 4,
    )
    assert (found[3], len(found), list(found)) == (3, 4, [0, 1, 2, 3])
