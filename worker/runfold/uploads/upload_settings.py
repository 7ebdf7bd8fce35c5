"""UploadSettings: what an uploader is told. Secrets never show in repr."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from runfold.node.settings import NodeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """What an uploader is told.

    Attributes:
        threads: Uploads at a time.
        live_interval_s: A watched file that changes all the time is uploaded this often.
        patience_s: How long a transfer tries again without progress before others get their turn.
    """

    threads: int = 4
    api_key: str | None = field(default=None, repr=False)
    live_interval_s: float = 10.0
    patience_s: float = 5.0

    @classmethod
    def of(cls, settings: NodeSettings) -> Self:
        """Return what an agent's settings say of uploads."""
        return cls(
            threads=max(1, settings.upload_threads),
            api_key=settings.api_key,
            live_interval_s=settings.live_interval_s,
        )
