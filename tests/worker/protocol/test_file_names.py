"""Which names files may have, and where they may be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from runfold.protocol.file_names import FileNameError, check_file_name, fold, is_digest
from runfold.safe_path import safe_path

GOOD = [
    "a",
    "model.pt",
    "d/e/f.txt",
    "aux.py",
    "epoch=3:step=4.ckpt",
    "a b",
    "…/x",
    ".hidden",
    "모델/가중치.bin",
    "%2e%2e",
    "a..b",
]
BAD = [
    *("", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "./a", "a/./b", "a//b", "a/", "//a"),
    *(
        "..\\x",
        "a\\b",
        "C:/x",
        "c:x",
        "\x00",
        "a\nb",
        "a\x7f",
        "．．/x",
        "a／..／b",
        "..／x",
        "\ud800",
        "a\u202egpj.exe",
    ),
    *("x" * 256, "a/" * 64 + "b", "x/" * 600),
]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_is_kept(name: str, tmp_path: Path) -> None:
    assert check_file_name(name) == name
    assert safe_path(tmp_path, name).relative_to(tmp_path).as_posix() == name


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_means_another_place_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNameError, match="no name for a file"):
        safe_path(tmp_path, name)


@pytest.mark.parametrize("name", ["aux.py", "CON", "d/nul", "ab:c", "a?", "a ", "a."])
def test_windows_refuses_what_it_cannot_keep(name: str, tmp_path: Path) -> None:
    assert check_file_name(name) == name
    with pytest.raises(FileNameError, match="Windows"):
        safe_path(tmp_path, name, is_windows=True)


def test_names_that_are_one_file_elsewhere_fold_to_the_same() -> None:
    assert fold("Straße/A") == fold("STRASSE/a")
    assert fold("e\u0301") == fold("\u00e9")
    assert fold("a") != fold("b")


def test_a_digest_is_lower_case_hex() -> None:
    assert is_digest("0f" * 32)
    assert not any(map(is_digest, ["0F" * 32, "0f" * 31, "0f" * 32 + "\n", "../" + "0" * 61]))
