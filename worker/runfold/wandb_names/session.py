"""What libraries ask W&B's module about its login: here nobody logs in before a server asks for a key."""

from __future__ import annotations

import os

#: For libraries that refuse to begin without a key, where none is needed.
NO_KEY = "no-key-needed"


class Session:
    """W&B's `wandb.api`, as far as libraries ask it for the key."""

    @property
    def api_key(self) -> str:
        """RUNFOLD_API_KEY, else WANDB_API_KEY; else words that are no key, never sent to anybody."""
        return os.environ.get("RUNFOLD_API_KEY") or os.environ.get("WANDB_API_KEY") or NO_KEY


api = Session()


def ensure_configured() -> None:
    """Do nothing: settings are read when a run begins."""
