"""How often each true class was taken for each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from runfold.media.media import need
from runfold.media.table import Table
from runfold.plot.chart import CustomChart, plot_table
from runfold.protocol import charts


def confusion_matrix(  # noqa: PLR0917  # W&B's signature
    probs: Sequence[Sequence[float]] | None = None,
    y_true: Sequence[Any] | None = None,
    preds: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
    title: str = "Confusion Matrix Curve",
    split_table: bool = False,
) -> CustomChart:
    """Return the counts of (true class, predicted class).

    Args:
        probs: Scores of each sample for each class, (n, classes): the highest is the prediction.
        y_true: The true class of each sample, (n,).
        preds: The predicted class of each sample, (n,), in place of `probs`.
        class_names: Names of the classes 0, 1, ...; else "Class_1", ... in the order of the labels.
        title: Above the chart.
        split_table: Show the table apart from the chart.

    Raises:
        ValueError: Both of `probs` and `preds` are given, or they are more or fewer than `y_true`, or there
            are more classes than names.
        AxisError: (of NumPy) `probs` has no column for each class.
        KeyError: A label is no index of a name.
        TypeError: One is missing.
    """
    if probs is not None and preds is not None:
        raise ValueError("Only one of `probs` or `preds` should be provided, not both.")
    class_count = 0
    if probs is not None:
        scores = need("numpy", "a confusion matrix of scores").asarray(probs)
        preds = scores.argmax(axis=1).tolist()
        class_count = scores.shape[1]
    if preds is None or y_true is None:
        raise TypeError("a confusion matrix needs y_true, and probs or preds")
    if len(preds) != len(y_true):
        raise ValueError("The number of predictions and true labels must be equal.")
    guesses, truths = [*map(_plain, preds)], [*map(_plain, y_true)]
    if class_names is not None:
        names = [str(name) for name in class_names]
        if len(set(guesses)) > len(names):
            raise ValueError("The number of unique predicted classes exceeds the number of class names.")
        places: dict[Any, int] = {place: place for place in range(len(names))}
    else:
        labels = _in_order({*guesses, *truths}) if probs is None else list(range(class_count))
        names = [f"Class_{number}" for number in range(1, len(labels) + 1)]
        places = {label: place for place, label in enumerate(labels)}
    counts = Counter((places[truth], places[guess]) for truth, guess in zip(truths, guesses, strict=True))
    rows = [
        [actual, predicted, float(counts[place, other])]
        for place, actual in enumerate(names)
        for other, predicted in enumerate(names)
    ]
    fields = {name: name for name in ("Actual", "Predicted", "nPredictions")}
    table = Table(columns=list(fields), data=rows)
    return plot_table(charts.CONFUSION_MATRIX, table, fields, {"title": title}, split_table)


def _plain(label: Any) -> Any:
    return label.item() if hasattr(label, "item") else label


def _in_order(labels: set[Any]) -> list[Any]:
    try:
        return sorted(labels)
    except TypeError:  # labels of several types
        return sorted(labels, key=lambda label: (type(label).__name__, str(label)))
