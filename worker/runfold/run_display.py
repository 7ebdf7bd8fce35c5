"""RunDisplay: a run as notebooks show it. Part of Run."""

from __future__ import annotations

from typing import Any

from runfold.run_facts import RunFacts


class RunDisplay(RunFacts):
    """Its page in a frame."""

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self, height: int = 420, hidden: bool = False) -> str:
        """Return HTML that shows the run's page, or its name where there is none."""
        url = self.url
        if url is None:
            return f"<code>{self.path}</code>"
        style = f"border:none;width:100%;height:{height}px;" + ("display:none;" if hidden else "")
        return f'<iframe src="{url}?jupyter=true" style="{style}"></iframe>'

    def display(self, height: int = 420, hidden: bool = False) -> bool:
        """Show the run's page in a notebook; return False elsewhere."""
        import sys

        display: Any = sys.modules.get("IPython.display")
        shell = sys.modules.get("IPython")
        if display is None or shell is None or shell.get_ipython() is None:
            return False
        display.display(display.HTML(self.to_html(height, hidden)))
        return True
