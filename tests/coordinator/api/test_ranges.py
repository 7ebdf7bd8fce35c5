"""Which part of unchanging content a request asks for (RFC 9110, 13 and 14)."""

from __future__ import annotations

import pytest

from runfold_coordinator.api.ranges import Part, choose

TAG = '"abc"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-0", Part(206, 0, 1)),
        ("bytes=2-5", Part(206, 2, 6)),
        ("bytes = 2 - 5", Part(206, 2, 6)),
        ("bytes=9-", Part(206, 9, 10)),
        ("bytes=5-500", Part(206, 5, 10)),
        ("bytes=-3", Part(206, 7, 10)),
        ("bytes=-300", Part(206, 0, 10)),
        ("bytes=10-", 416),
        ("bytes=10-12", 416),
        ("bytes=-0", 416),
        *((text, Part(200, 0, 10)) for text in ("", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "lines=1-2")),
        *(
            (text, Part(200, 0, 10))
            for text in ("bytes=a-b", "bytes=" + "9" * 30 + "-", "0-5", "bytes=1-2-3")
        ),
    ],
)
def test_ranges(text: str, expected: object) -> None:
    assert choose({"range": text}, 10, TAG) == expected


def test_of_nothing_no_part_can_be_had() -> None:
    assert choose({}, 0, TAG) == Part(200, 0, 0)
    assert choose({"range": "bytes=0-"}, 0, TAG) == 416


@pytest.mark.parametrize("known", [TAG, f"W/{TAG}", f'"x", {TAG}', "*", f'"a,b",{TAG}'])
def test_what_the_client_has_is_not_sent(known: str) -> None:
    assert choose({"if-none-match": known, "range": "bytes=0-1"}, 10, TAG) == 304


@pytest.mark.parametrize("known", ['"other"', "abc", '"abcd"', "", '"ab" "c"'])
def test_other_tags_are_other_content(known: str) -> None:
    assert choose({"if-none-match": known}, 10, TAG) == Part(200, 0, 10)


def test_a_range_of_other_content_gives_the_whole() -> None:
    assert choose({"range": "bytes=2-3", "if-range": TAG}, 10, TAG) == Part(206, 2, 4)
    assert choose({"range": "bytes=2-3", "if-range": '"other"'}, 10, TAG) == Part(200, 0, 10)
    assert choose({"range": "bytes=2-3", "if-range": f"W/{TAG}"}, 10, TAG) == Part(200, 0, 10)
