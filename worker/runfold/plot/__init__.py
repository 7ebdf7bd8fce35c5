"""Charts for log(), under W&B's names: `run.log({"roc": runfold.plot.roc_curve(y_true, y_probas)})`.

What is logged is a table and how it is drawn; the specs are Vega-Lite, in `runfold.protocol.charts`.
"""

from __future__ import annotations

from runfold.plot.chart import CustomChart, plot_table
from runfold.plot.confusion_matrix import confusion_matrix
from runfold.plot.curves import pr_curve, roc_curve
from runfold.plot.line_series import line_series
from runfold.plot.simple import bar, histogram, line, scatter
from runfold.protocol.charts import CustomChartSpec

__all__ = [
    "CustomChart",
    "CustomChartSpec",
    "bar",
    "confusion_matrix",
    "histogram",
    "line",
    "line_series",
    "plot_table",
    "pr_curve",
    "roc_curve",
    "scatter",
]
