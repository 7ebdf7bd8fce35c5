"""Html: a page or a piece of one to log. In: text, a path, a file object. Out: an .html file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from runfold.media.content import Content
from runfold.media.media import BatchableMedia
from runfold.media.open_files import bytes_of

#: What W&B puts into the head of every page: `inject=False` leaves a page as it is.
_HEAD = '<base target="_blank"><link rel="stylesheet" type="text/css" href="{}" />'.format(
    "https://app.wandb.ai/normalize.css"
)


class Html(BatchableMedia):
    """A page for log(). It is shown without scripts, and downloaded as it was logged."""

    TYPE: ClassVar[str] = "html-file"
    FOLDER: ClassVar[str] = "media/html"
    LIST_TYPE: ClassVar[str | None] = "html"

    def __init__(self, data: Any, inject: bool = True, data_is_not_path: bool = False) -> None:
        """Capture it.

        Args:
            data: HTML; or the path of a file that ends in .html; or a file object.
            inject: Add W&B's style sheet to its head.
            data_is_not_path: Text that looks like a path is HTML too.

        Raises:
            ValueError: It is neither.
        """
        super().__init__()
        path = None if data_is_not_path else _path_of(data)
        if path is not None:
            self.html = path.read_text(encoding="utf-8")
        elif isinstance(data, str):
            self.html = data
        elif hasattr(data, "read"):
            self.html = bytes_of(data).decode()
        else:
            raise ValueError("data must be a string or an io object")
        if inject:
            self.html = _injected(self.html)
        if path is not None and not inject:
            self._content = Content.of_file(path, path.suffix)
        else:
            self._content = Content.of_text(".html", self.html)

    @classmethod
    def describe_list(cls, items: Sequence[Html], jsons: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the form of lists."""
        return {"_type": cls.LIST_TYPE, "count": len(items), "html": list(jsons)}


def _path_of(data: Any) -> Path | None:
    if not isinstance(data, (str, Path)) or not str(data).endswith(".html"):
        return None
    try:
        path = Path(data)
        return path if path.is_file() else None
    except (OSError, ValueError):  # a page is no path: too long, or with a NUL
        return None


def _injected(html: str) -> str:
    for tag, opened, closed in (("<head>", "<head>", ""), ("<html>", "<html><head>", "</head>")):
        before, found, after = html.partition(tag)
        if found:
            return f"{before}{opened}{_HEAD}{closed}{after}".strip()
    return f"{_HEAD}{html}".strip()
