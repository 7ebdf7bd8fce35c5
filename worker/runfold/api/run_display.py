"""RunDisplay: a stored run as notebooks show it. Part of Run."""

from __future__ import annotations

from runfold import run_card
from runfold.api.run_facts import RunFacts
from runfold.run_display import show


class RunDisplay(RunFacts):
    """Its page in a frame, which goes on by itself."""

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self, height: int = 420, hidden: bool = False) -> str:
        """Return HTML that shows the run's page.

        Args:
            height: Of the frame, in pixels.
            hidden: Show it after a click only.
        """
        return run_card.frame(self.url, height=height, hidden=hidden)

    def display(self, height: int = 420, hidden: bool = False) -> bool:
        """Show the run's page in a notebook; return False elsewhere."""
        return show(self.to_html, height, hidden)
