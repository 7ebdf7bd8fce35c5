"""Bokeh: a plot of the Bokeh library, as the JSON of its document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from runfold.media.content import Content
from runfold.media.json_text import json_text, plain
from runfold.media.media import Media, need


class Bokeh(Media):
    """An interactive plot for log(). Needs bokeh, which no extra brings."""

    TYPE: ClassVar[str] = "bokeh-file"
    FOLDER: ClassVar[str] = "media/bokeh"

    def __init__(self, data_or_path: Any) -> None:
        """Capture a plot (a model), a document, or the path of a document's JSON.

        Raises:
            TypeError: It is none of these. Error: bokeh is not installed.
            ValueError: The file is no JSON.
        """
        super().__init__()
        document = need("bokeh.document", "runfold.data_types.Bokeh", package="bokeh").Document
        model = need("bokeh.model", "runfold.data_types.Bokeh", package="bokeh").Model
        if isinstance(data_or_path, (str, Path)) and Path(data_or_path).is_file():
            json.loads(Path(data_or_path).read_text(encoding="utf-8"))
            self._content = Content.of_file(Path(data_or_path), ".bokeh.json")
            return
        if isinstance(data_or_path, model):
            drawn = document()
            drawn.add_root(data_or_path)
        elif isinstance(data_or_path, document):
            drawn = data_or_path
        else:
            raise TypeError("Bokeh constructor accepts Bokeh document/model or path to Bokeh json file")
        # Read back and told again, ids are in one order: the same plot has the same digest.
        again = document.from_json(_told(drawn))
        self._content = Content.of_text(".bokeh.json", json_text(plain(_told(again))))


def _told(document: Any) -> Any:
    try:
        return document.to_json(deferred=False)  # since Bokeh 3: what is plain JSON at once
    except TypeError:
        return document.to_json()
