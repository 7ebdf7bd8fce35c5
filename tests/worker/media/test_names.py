"""Names of media files: W&B's, and for any key one that a run's file may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold.media.names import media_name
from runfold.protocol.file_names import MAX_NAME_BYTES, check_file_name

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("img", "media/images/img_7_0123456789abcdef0123.png"),
        ("val/cats/fluffy", "media/images/val/cats/fluffy_7_0123456789abcdef0123.png"),
        ("/lead", "media/images/lead_7_0123456789abcdef0123.png"),
        ("up/../x", "media/images/up/__/x_7_0123456789abcdef0123.png"),
        ("a/./b", "media/images/a/_/b_7_0123456789abcdef0123.png"),
        ("dots.key", "media/images/dots.key_7_0123456789abcdef0123.png"),
        ("two words ü", "media/images/two words ü_7_0123456789abcdef0123.png"),
        ("back\\slash", "media/images/back_slash_7_0123456789abcdef0123.png"),
        ("line\nbreak", "media/images/line_break_7_0123456789abcdef0123.png"),
    ],
)
def test_a_key_names_its_file(key: str, expected: str) -> None:
    assert media_name("media/images", key, 7, DIGEST, ".png") == expected


def test_what_is_set_in_the_summary_says_so() -> None:
    assert media_name("media/html", "h", "summary", DIGEST, ".html").startswith("media/html/h_summary_")


@given(st.text(max_size=400))
def test_any_key_gives_a_name_below_its_folder(key: str) -> None:
    name = media_name("media/images", key, 12, DIGEST, ".pts.json")
    assert check_file_name(name).startswith("media/images/")
    assert name.endswith("_12_0123456789abcdef0123.pts.json")
    assert len(name.encode()) < MAX_NAME_BYTES
    assert ".." not in name.split("/")
