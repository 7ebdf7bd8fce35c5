"""Charts: how a run's config tells that a table is to be drawn, and the Vega-Lite specs to draw it by. Pure.

    config["_wandb"]["visualize"][key]   W&B's form: which spec, which columns are its fields, its texts
    row[key + "_table"]                  the table

The specs are our own. They hold no addresses and no expressions: columns are named, texts are texts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Names of the specs as scripts and stored configs have them.
LINE, SCATTER, BAR, HISTOGRAM = "wandb/line/v0", "wandb/scatter/v0", "wandb/bar/v0", "wandb/histogram/v0"
LINE_SERIES, CURVE = "wandb/lineseries/v0", "wandb/area-under-curve/v0"
CONFUSION_MATRIX = "wandb/confusion_matrix/v1"
#: Folder of the tables of charts that are shown apart from them.
SPLIT_FOLDER = "Custom Chart Tables"
VEGA_LITE = "https://vega.github.io/schema/vega-lite/v6.json"
#: Name of the data set that a spec draws; who draws it fills it with the table's rows.
DATA_NAME = "table"

Spec = dict[str, Any]
_Fields = Mapping[str, Any]
_Texts = Mapping[str, Any]


@dataclass(frozen=True)
class CustomChartSpec:
    """How a table is drawn.

    Attributes:
        spec_name: One of those above, or the name of somebody's own.
        fields: Column by the spec's field; None: the field is left out.
        string_fields: Texts by name, such as "title".
        key: Under which the chart was logged.
        split_table: Whether the table is shown apart from the chart.
    """

    spec_name: str
    fields: dict[str, Any]
    string_fields: dict[str, Any]
    key: str = ""
    panel_type: str = "Vega2"
    split_table: bool = False

    @property
    def table_key(self) -> str:
        """Key of the table in the row."""
        return f"{SPLIT_FOLDER}/{self.key}_table" if self.split_table else f"{self.key}_table"

    @property
    def config_key(self) -> tuple[str, str, str]:
        """Where the config tells of it."""
        return "_wandb", "visualize", self.key

    @property
    def config_value(self) -> dict[str, Any]:
        """What the config tells of it."""
        runs = _asked("runSets", "${runSets}", [_asked("id"), _asked("name"), _asked("_defaultColorIndex")])
        runs["fields"].append(
            {**_asked("summaryTable"), "args": [{"name": "tableKey", "value": self.table_key}]}
        )
        return {
            "panel_type": self.panel_type,
            "panel_config": {
                "userQuery": {"queryFields": [runs]},
                "panelDefId": self.spec_name,
                "transform": {"name": "tableWithLeafColNames"},
                "fieldSettings": self.fields,
                "stringSettings": self.string_fields,
            },
        }

    @classmethod
    def from_config(cls, key: str, told: object) -> CustomChartSpec | None:
        """Return what a config tells of a chart; None for what is no chart."""
        config = told.get("panel_config") if isinstance(told, dict) else None
        if not isinstance(config, dict) or not isinstance(config.get("panelDefId"), str):
            return None
        fields, texts = config.get("fieldSettings"), config.get("stringSettings")
        if not isinstance(fields, dict) or not isinstance(texts, dict):
            return None
        is_split = SPLIT_FOLDER in str(config.get("userQuery"))
        return cls(config["panelDefId"], fields, texts, key, split_table=is_split)

    def vega_lite(self, columns: Sequence[Any] = (), rows: Sequence[Sequence[Any]] = ()) -> Spec | None:
        """Return the Vega-Lite spec with the rows in it; None: it is somebody's own, not known here."""
        make = _SPECS.get(self.spec_name)
        if make is None:
            return None
        values = [dict(zip(map(str, columns), row, strict=False)) for row in rows]
        title = _text(self.string_fields, "title")
        return {
            "$schema": VEGA_LITE,
            "data": {"name": DATA_NAME, "values": copy.deepcopy(values)},
            **({"title": title} if title else {}),
            **make(self.fields, self.string_fields),
        }


def _asked(name: str, value: str | None = None, fields: list[Any] | None = None) -> dict[str, Any]:
    """Return a field of the query by which W&B's page asks for a table."""
    arguments = {} if value is None else {"args": [{"name": name, "value": value}]}
    return {"name": name, **arguments, "fields": fields or []}


def _text(texts: _Texts, name: str, default: str = "") -> str:
    found = texts.get(name)
    return found if isinstance(found, str) and found else default


def _column(name: Any) -> str:
    """Return a column's name as Vega takes it: dots and brackets would mean something inside of it."""
    return "".join(f"\\{char}" if char in ".[]\\'\"" else char for char in str(name))


def _axis(fields: _Fields, name: str, kind: str = "quantitative", **more: Any) -> Spec:
    column = fields.get(name) or name
    return {"field": _column(column), "type": kind, "title": str(column), **more}


def _tips(*axes: Spec) -> list[Spec]:
    return [{"field": axis["field"], "type": axis["type"], "title": axis["title"]} for axis in axes]


def _line(fields: _Fields, texts: _Texts) -> Spec:
    del texts
    x, y = _axis(fields, "x", scale={"zero": False}), _axis(fields, "y", scale={"zero": False})
    color = {"color": _axis(fields, "stroke", "nominal")} if fields.get("stroke") else {}
    return {
        "mark": {"type": "line", "tooltip": True},
        "encoding": {"x": x, "y": y, **color, "tooltip": _tips(x, y, *color.values())},
    }


def _scatter(fields: _Fields, texts: _Texts) -> Spec:
    del texts
    x, y = _axis(fields, "x", scale={"zero": False}), _axis(fields, "y", scale={"zero": False})
    return {
        "mark": {"type": "point", "filled": True, "opacity": 0.6},
        "encoding": {"x": x, "y": y, "tooltip": _tips(x, y)},
    }


def _bar(fields: _Fields, texts: _Texts) -> Spec:
    del texts
    length, label = _axis(fields, "value"), _axis(fields, "label", "nominal", sort=None)
    return {"mark": "bar", "encoding": {"x": length, "y": label, "tooltip": _tips(label, length)}}


def _histogram(fields: _Fields, texts: _Texts) -> Spec:
    del texts
    return {
        "mark": "bar",
        "encoding": {
            "x": _axis(fields, "value", bin={"maxbins": 30}),
            "y": {"aggregate": "count", "type": "quantitative", "title": "count"},
        },
    }


def _line_series(fields: _Fields, texts: _Texts) -> Spec:
    x = {**_axis(fields, "step"), "title": _text(texts, "xname", "x"), "scale": {"zero": False}}
    y = {**_axis(fields, "lineVal", scale={"zero": False}), "title": "y"}
    color = {**_axis(fields, "lineKey", "nominal"), "title": "line"}
    return {
        "mark": {"type": "line"},
        "encoding": {"x": x, "y": y, "color": color, "tooltip": _tips(color, x, y)},
    }


def _curve(fields: _Fields, texts: _Texts) -> Spec:
    whole = {"domain": [0, 1]}
    x = {**_axis(fields, "x", scale=whole), "title": _text(texts, "x-axis-title", "x")}
    y = {**_axis(fields, "y", scale=whole), "title": _text(texts, "y-axis-title", "y")}
    color = _axis(fields, "class", "nominal")
    # The order of the rows is that of the curve: x alone has several values of y where it rises.
    return {
        "mark": {"type": "line", "interpolate": "linear"},
        "transform": [{"window": [{"op": "row_number", "as": "row number"}]}],
        "encoding": {
            "x": x,
            "y": y,
            "color": color,
            "order": {"field": "row number", "type": "quantitative"},
            "tooltip": _tips(color, x, y),
        },
    }


def _confusion_matrix(fields: _Fields, texts: _Texts) -> Spec:
    del texts
    actual, predicted = (_axis(fields, name, "nominal", sort=None) for name in ("Actual", "Predicted"))
    count = _axis(fields, "nPredictions")
    cell = {"x": predicted, "y": actual}
    return {
        "encoding": {**cell, "tooltip": _tips(actual, predicted, count)},
        "layer": [
            {"mark": "rect", "encoding": {"color": {**count, "scale": {"scheme": "blues"}}}},
            {"mark": {"type": "text", "baseline": "middle"}, "encoding": {"text": _tips(count)[0]}},
        ],
    }


_SPECS: dict[str, Callable[[_Fields, _Texts], Spec]] = {
    LINE: _line,
    SCATTER: _scatter,
    BAR: _bar,
    HISTOGRAM: _histogram,
    LINE_SERIES: _line_series,
    CURVE: _curve,
    CONFUSION_MATRIX: _confusion_matrix,
}
#: The specs that are drawn here.
SPEC_NAMES = tuple(_SPECS)
