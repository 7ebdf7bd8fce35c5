"""RunDisplay: a run as notebooks show it. Part of Run."""

from __future__ import annotations

from typing import Any

from runfold import terminal
from runfold.run_facts import RunFacts


class RunDisplay(RunFacts):
    """Its page in a frame, which goes on by itself; a card of what is known here where it has no page."""

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self, height: int = 420, hidden: bool = False) -> str:
        """Return HTML that shows the run.

        Args:
            height: Of the frame, in pixels.
            hidden: Show it after a click only.
        """
        from runfold import run_card

        url = None if self.offline or self.disabled else self.url
        if url is not None:
            return run_card.frame(url, height=height, hidden=hidden)
        run: Any = self  # the other parts of Run
        live = run._live_fold()  # noqa: SLF001  # same
        return run_card.card(
            name=run.name or self.id,
            path=self.path,
            state=self._state_here(),
            config=run.config._as_stored(),  # noqa: SLF001  # same
            summary=live.summary() if live is not None else {},
            hidden=hidden,
        )

    def _state_here(self) -> str:
        if self.disabled:
            return "disabled"
        state = "finished here" if self._recorder.is_ended else "running"
        return f"{state}, offline" if self.offline else state

    def display(self, height: int = 420, hidden: bool = False) -> bool:
        """Show the run in a notebook; return False elsewhere."""
        return show(self.to_html, height, hidden)


def show(to_html: Any, height: int, hidden: bool) -> bool:
    """Show what `to_html` returns in a notebook; return False where there is none."""
    import sys

    display: Any = sys.modules.get("IPython.display")
    shell: Any = sys.modules.get("IPython")
    if display is None or shell is None or shell.get_ipython() is None:
        return False
    try:
        display.display(display.HTML(to_html(height, hidden)))
    except Exception as error:  # noqa: BLE001  # a front end that can't show it is no reason to end training
        terminal.warn_once(f"the run can't be shown here: {error}")
        return False
    return True
