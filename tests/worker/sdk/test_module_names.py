"""Names that scripts take from W&B's module beside its functions for runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import runfold as wandb
from runfold import terminal
from runfold.errors import UnsupportedError


@pytest.fixture(autouse=True)
def audible() -> Iterator[None]:
    """Let lines be heard, whatever ran before."""
    was_silent = terminal.is_silent()
    terminal.be_silent(silent=False)
    yield
    terminal.be_silent(silent=was_silent)


@pytest.mark.parametrize("name", ["sweep", "agent", "controller"])
def test_what_tunes_says_what_is_there_instead(name: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"runfold\.{name}\(\): .*RUNFOLD_SWEEP_ID"):
        getattr(wandb, name)({"method": "grid"}, project="p")


def test_lines_at_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("termlog", "termwarn", "termerror"):
        say = getattr(wandb, name)
        say(f"hello {name}")
        say(f"once {name}", repeat=False)
        say(f"once {name}", repeat=False)
    wandb.termlog()
    assert capsys.readouterr().err.splitlines() == [
        *("runfold: hello termlog", "runfold: once termlog"),
        *("runfold: WARNING hello termwarn", "runfold: WARNING once termwarn"),
        *("runfold: ERROR hello termerror", "runfold: ERROR once termerror"),
        "runfold: ",
    ]


def test_generated_ids_have_the_length_that_was_asked_for() -> None:
    from runfold.util import generate_id

    assert wandb.util.generate_id is generate_id
    for length in (1, 8, 12, 64):
        made = generate_id(length)
        assert len(made) == length
        assert made.isalnum()
        assert made == made.lower()
    assert len(generate_id()) == 8
    assert generate_id(64)[:32] != generate_id(64)[:32]


def test_names_that_are_imported_late_are_listed() -> None:
    assert set(wandb.__all__) <= set(dir(wandb))
    assert wandb.Config is type(wandb.init(mode="disabled").config)


def test_join_is_finish(capsys: pytest.CaptureFixture[str]) -> None:
    wandb.init(mode="disabled")
    wandb.join()
    assert wandb.run is None
    with pytest.raises(wandb.Error, match=r"before wandb\.pin_config_keys\(\)"):
        wandb.pin_config_keys(["a"])
    wandb.join()
    assert "join() is deprecated" in capsys.readouterr().err


def test_each_line_of_ours_begins_alike(capsys: pytest.CaptureFixture[str]) -> None:
    wandb.termlog("a\nb", newline=False)
    wandb.termwarn("c", prefix=False)
    assert capsys.readouterr().err == "runfold: a\nrunfold: bWARNING c\n"
