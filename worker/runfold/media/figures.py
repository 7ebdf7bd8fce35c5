"""Figures: Plotly's, and matplotlib's as Plotly's where that can be, else as an image."""

from __future__ import annotations

import io
import types
from typing import Any, ClassVar

from runfold import terminal
from runfold.media.content import Content
from runfold.media.json_text import json_text, plain
from runfold.media.media import Media, need


class Plotly(Media):
    """An interactive plot for log(). Figures of plotly and matplotlib are logged directly, too."""

    TYPE: ClassVar[str] = "plotly-file"
    FOLDER: ClassVar[str] = "media/plotly"

    def __init__(self, val: Any) -> None:
        """Capture a figure.

        Raises:
            ValueError: It is no figure of plotly, nor one of matplotlib that plotly can draw.
        """
        super().__init__()
        if is_matplotlib(val):
            if contains_images(val):
                raise ValueError(
                    "Plotly does not currently support converting matplotlib figures containing images. "
                    "You can convert the plot to a static image with `wandb.Image(plt)`"
                )
            val = _converted(val)
        elif not is_plotly(val):
            raise ValueError(
                "Logged plots must be plotly figures, or matplotlib plots convertible to plotly "
                "via mpl_to_plotly"
            )
        self._content = Content.of_text(".plotly.json", json_text(plain(val.to_plotly_json())))


def media_of(figure: Any) -> Media:
    """Return what stands for a figure that was logged as it is."""
    if not is_matplotlib(figure):
        return Plotly(figure)
    from runfold.media.image import Image

    if contains_images(figure):
        return Image(figure)
    try:
        return Plotly(figure)
    except Exception as error:  # noqa: BLE001  # plotly does not know all that matplotlib draws
        terminal.warn_once(f"a matplotlib figure is logged as an image, plotly can't draw it: {error}")
        return Image(figure)


def is_plotly(value: object) -> bool:
    """Return whether it is a figure of plotly."""
    return type(value).__module__.partition(".")[0] == "plotly" and hasattr(value, "to_plotly_json")


def is_matplotlib(value: object) -> bool:
    """Return whether it is a figure of matplotlib, something in one, or pyplot with its current one."""
    if isinstance(value, types.ModuleType):
        return value.__name__ in ("matplotlib.pyplot", "pylab", "matplotlib.pylab")
    return type(value).__module__.partition(".")[0] in ("matplotlib", "mpl_toolkits") and (
        hasattr(value, "savefig") or hasattr(value, "get_figure") or hasattr(value, "figure")
    )


def rendered(value: Any, file_type: str) -> io.BytesIO:
    """Return the figure's image file."""
    buffer = io.BytesIO()
    _figure(value).savefig(buffer, format=file_type)
    buffer.seek(0)
    return buffer


def contains_images(value: Any) -> bool:
    """Return whether a matplotlib figure holds images, which plotly can't draw."""
    return any(axes.images for axes in _figure(value).axes)


def _figure(value: Any) -> Any:
    if isinstance(value, types.ModuleType):
        return value.gcf()
    if hasattr(value, "savefig"):
        return value
    found = value.get_figure() if hasattr(value, "get_figure") else value.figure
    if found is None:
        raise ValueError("Only matplotlib.pyplot or matplotlib.pyplot.Figure objects are accepted.")
    return found


def _converted(value: Any) -> Any:
    tools = need("plotly.tools", "an interactive plot of a matplotlib figure")
    spine = need("matplotlib.spines", "an interactive plot of a matplotlib figure").Spine
    if not hasattr(spine, "is_frame_like"):
        # plotly asks for what matplotlib 3.5 removed: whether the spine lies on the frame of the axes.
        spine.is_frame_like = lambda self: (self._position or ("outward", 0.0)) == ("outward", 0.0)
    return tools.mpl_to_plotly(_figure(value))  # closes it in pyplot, as under W&B
