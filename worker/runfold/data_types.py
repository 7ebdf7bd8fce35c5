"""Everything that log() takes beside plain values, under W&B's names. Each is imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runfold.histogram import Histogram
    from runfold.media.audio import Audio
    from runfold.media.bokeh import Bokeh
    from runfold.media.bounding_boxes import BoundingBoxes2D
    from runfold.media.box3d import box3d
    from runfold.media.classes import Classes
    from runfold.media.figures import Plotly
    from runfold.media.graph import Edge, Graph, Node
    from runfold.media.html import Html
    from runfold.media.image import Image
    from runfold.media.image_mask import ImageMask
    from runfold.media.joined_table import JoinedTable, PartitionedTable
    from runfold.media.media import BatchableMedia, Media
    from runfold.media.molecule import Molecule
    from runfold.media.object3d import Object3D
    from runfold.media.table import Table
    from runfold.media.unsupported import EvalTable, WBTraceTree
    from runfold.media.video import Video
    from runfold.wb_value import WBValue

__all__ = [
    "Audio",
    "BatchableMedia",
    "Bokeh",
    "BoundingBoxes2D",
    "Classes",
    "Edge",
    "EvalTable",
    "Graph",
    "Histogram",
    "Html",
    "Image",
    "ImageMask",
    "JoinedTable",
    "Media",
    "Molecule",
    "Node",
    "Object3D",
    "PartitionedTable",
    "Plotly",
    "Table",
    "Video",
    "WBTraceTree",
    "WBValue",
    "box3d",
]

#: Where each name comes from.
_PLACES = {
    "Audio": "runfold.media.audio",
    "BatchableMedia": "runfold.media.media",
    "Bokeh": "runfold.media.bokeh",
    "BoundingBoxes2D": "runfold.media.bounding_boxes",
    "Classes": "runfold.media.classes",
    "Edge": "runfold.media.graph",
    "EvalTable": "runfold.media.unsupported",
    "Graph": "runfold.media.graph",
    "Histogram": "runfold.histogram",
    "Html": "runfold.media.html",
    "Image": "runfold.media.image",
    "ImageMask": "runfold.media.image_mask",
    "JoinedTable": "runfold.media.joined_table",
    "Media": "runfold.media.media",
    "Molecule": "runfold.media.molecule",
    "Node": "runfold.media.graph",
    "Object3D": "runfold.media.object3d",
    "PartitionedTable": "runfold.media.joined_table",
    "Plotly": "runfold.media.figures",
    "Table": "runfold.media.table",
    "Video": "runfold.media.video",
    "WBTraceTree": "runfold.media.unsupported",
    "WBValue": "runfold.wb_value",
    "box3d": "runfold.media.box3d",
}


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'runfold.data_types' has no attribute {name!r}")
    return getattr(importlib.import_module(place), name)
