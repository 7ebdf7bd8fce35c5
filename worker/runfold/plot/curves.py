"""Precision-recall and ROC curves of classifiers, one class against the rest. With NumPy alone.

The definitions are those of scikit-learn's `precision_recall_curve` and `roc_curve`: a sample is taken for
positive where its score is at least the threshold, and thresholds are the scores that occur.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from runfold import terminal
from runfold.media.media import need
from runfold.media.table import Table
from runfold.plot.chart import CustomChart, plot_table
from runfold.protocol import charts

_DECIMALS = 3


def pr_curve(  # noqa: PLR0917  # W&B's signature
    y_true: Iterable[Any] | None = None,
    y_probas: Iterable[Any] | None = None,
    labels: Sequence[str] | dict[Any, str] | None = None,
    classes_to_plot: Sequence[Any] | None = None,
    interp_size: int = 21,
    title: str = "Precision-Recall Curve",
    split_table: bool = False,
) -> CustomChart:
    """Return precision over recall of each class: at each recall the best precision that reaches it.

    Args:
        y_true: The true class of each sample, (n,).
        y_probas: The score of each sample for each class, (n, classes in order of their sorted labels).
        labels: Names of classes that are numbers 0, 1, ...
        classes_to_plot: Those to draw; all by default.
        interp_size: Points of a curve, at equal steps of recall from 1 to 0.
        title: Above the chart.
        split_table: Show the table apart from the chart.

    Raises:
        ValueError: They do not belong together, hold NaN, or no class is drawn.
        IndexError: There is no column for a class, or no name for one.
        Error: NumPy is not installed.
    """
    numpy = need("numpy", "a precision-recall curve")
    grid = numpy.linspace(0, 1, interp_size)[::-1]
    rows = []
    for name, truth, scores in _classes(y_true, y_probas, labels, classes_to_plot):
        counts = _Counts.of(truth, scores)
        precision = counts.hits / (counts.hits + counts.alarms)
        # The best of all thresholds that reach a recall; where nothing is to be found, nothing is wrong.
        best = numpy.maximum.accumulate(precision[::-1])[::-1]
        reaching = numpy.searchsorted(counts.hits / counts.hits[-1], grid, side="left")
        rows += _rounded(name, numpy.where(grid > 0, best[reaching], 1.0), grid)
    fields = {"x": "recall", "y": "precision", "class": "class"}
    texts = {"title": title, "x-axis-title": "Recall", "y-axis-title": "Precision"}
    table = Table(columns=["class", "precision", "recall"], data=_thinned(rows))
    return plot_table(charts.CURVE, table, fields, texts, split_table)


def roc_curve(  # noqa: PLR0917  # W&B's signature
    y_true: Iterable[Any] | None = None,
    y_probas: Iterable[Any] | None = None,
    labels: Sequence[str] | dict[Any, str] | None = None,
    classes_to_plot: Sequence[Any] | None = None,
    title: str = "ROC Curve",
    split_table: bool = False,
) -> CustomChart:
    """Return the true positive rate over the false positive rate of each class.

    Arguments and errors as of `pr_curve`; points on a straight line between others are left out.
    """
    numpy = need("numpy", "an ROC curve")
    rows = []
    for name, truth, scores in _classes(y_true, y_probas, labels, classes_to_plot):
        counts = _Counts.of(truth, scores)
        hits, alarms = counts.hits, counts.alarms
        if len(hits) > 2:
            bends = numpy.logical_or(numpy.diff(alarms, 2), numpy.diff(hits, 2))
            kept = numpy.where(numpy.r_[True, bends, True])[0]
            hits, alarms = hits[kept], alarms[kept]
        hits, alarms = numpy.r_[0, hits], numpy.r_[0, alarms]
        with numpy.errstate(invalid="ignore"):  # nothing but positives: the rate is NaN, as in scikit-learn
            rows += _rounded(name, alarms / alarms[-1], hits / hits[-1])
    fields = {"x": "fpr", "y": "tpr", "class": "class"}
    texts = {"title": title, "x-axis-title": "False positive rate", "y-axis-title": "True positive rate"}
    table = Table(columns=["class", "fpr", "tpr"], data=_thinned(rows))
    return plot_table(charts.CURVE, table, fields, texts, split_table)


@dataclass(frozen=True)
class _Counts:
    """Positives by falling threshold: float64 (thresholds,) each, the last one takes all samples.

    Attributes:
        hits: True positives.
        alarms: False positives.
    """

    hits: Any
    alarms: Any

    @classmethod
    def of(cls, truth: Any, scores: Any) -> _Counts:
        """Count. `truth` is bool (n,), `scores` float (n,)."""
        import numpy

        order = numpy.argsort(-scores, kind="stable")
        falling, found = scores[order], truth[order]
        ends = numpy.r_[numpy.where(numpy.diff(falling))[0], len(falling) - 1]
        hits = numpy.cumsum(found)[ends].astype(float)
        return cls(hits, ends + 1 - hits)


def _classes(y_true: Any, y_probas: Any, labels: Any, classes_to_plot: Any) -> list[tuple[Any, Any, Any]]:
    """Return (name, whether each sample is of it, its scores) of each class that is drawn.

    Raises:
        ValueError: See `pr_curve`.
    """
    import numpy

    if y_true is None:
        raise ValueError("a curve needs y_true, the class of each sample")
    truth, scores = numpy.asarray(_listed(y_true)), numpy.asarray(_listed(y_probas), dtype=float)
    if truth.ndim != 1:
        raise ValueError(f"y_true has one class for each sample: its shape is {truth.shape}")
    classes = numpy.unique(truth)
    if scores.ndim != 2 or scores.shape[1] < len(classes):
        raise IndexError(
            f"y_probas has a row for each sample and a column for each class of {len(classes)}: "
            f"its shape is {scores.shape}"
        )
    if len(truth) != len(scores):
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: [{len(truth)}, {len(scores)}]"
        )
    if numpy.isnan(scores).any():
        raise ValueError("Input contains NaN.")
    wanted = classes if classes_to_plot is None else classes_to_plot
    drawn = [
        (_name(each, labels), truth == each, scores[:, place])
        for place, each in enumerate(classes)
        if each in wanted
    ]
    if not drawn:
        raise ValueError("no class is left to draw: y_true is empty, or has none of classes_to_plot")
    return drawn


def _listed(values: Any) -> Any:
    is_ready = values is None or hasattr(values, "__array__") or isinstance(values, list)
    return values if is_ready else list(values)


def _name(each: Any, labels: Any) -> Any:
    plain = each.item() if hasattr(each, "item") else each
    return labels[plain] if labels is not None and isinstance(plain, int) else plain


def _rounded(name: Any, *columns: Any) -> list[list[Any]]:
    lists = [[round(float(value), _DECIMALS) for value in column] for column in columns]
    return [[name, *values] for values in zip(*lists, strict=True)]


def _thinned(rows: list[list[Any]]) -> list[list[Any]]:
    """Return at most as many rows as a table shows, evenly taken; each class keeps its ends."""
    if len(rows) <= Table.MAX_ROWS:
        return rows
    terminal.warn_once(f"runfold uses only {Table.MAX_ROWS} data points to create the plots.")
    by_class: dict[Any, list[list[Any]]] = {}
    for row in rows:
        by_class.setdefault(row[0], []).append(row)
    each = max(2, Table.MAX_ROWS // len(by_class))
    kept = []
    for points in by_class.values():
        count = min(each, len(points))
        kept += [points[round(place * (len(points) - 1) / max(1, count - 1))] for place in range(count)]
    return kept[: Table.MAX_ROWS]
