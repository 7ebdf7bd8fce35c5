"""Asks whether a run is really to be stopped."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

from runfold.top.texts import clean

GRACE_S = 30.0


class StopScreen(ModalScreen[bool]):
    """Returns True for y, False for anything else that closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [("y", "answer(True)"), ("n,escape,enter,q", "answer(False)")]
    CSS = """
    StopScreen { align: center middle; }
    StopScreen > Static { width: auto; max-width: 90%; height: auto; border: round red; padding: 1 2; }
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def compose(self) -> ComposeResult:
        """Lay out the question."""
        text = Text.assemble(
            ("Stop ", "bold"), (clean(self._path), "bold"), ("?\n\n", "bold"),
            f"SIGTERM to its processes now, SIGKILL after {GRACE_S:.0f} s.\n\ny  stop it     n  let it run",
        )  # fmt: skip
        yield Static(text)

    def action_answer(self, is_yes: bool) -> None:
        """Close with the answer."""
        self.dismiss(is_yes)
