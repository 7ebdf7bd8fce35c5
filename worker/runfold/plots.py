"""Charts under names of W&B's early releases; each warns once and calls its successor (`runfold.plot`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from runfold import terminal
from runfold.plot.chart import CustomChart
from runfold.plot.confusion_matrix import confusion_matrix as _confusion_matrix
from runfold.plot.curves import pr_curve, roc_curve

__all__ = ["ROC", "confusion_matrix", "precision_recall", "roc"]


def precision_recall(  # noqa: PLR0917  # the early releases' signature
    y_true: Iterable[Any],
    y_probas: Iterable[Any],
    labels: Sequence[str] | None = None,
    plot_micro: bool = True,  # noqa: ARG001  # the early releases' signature
    plot_macro: bool = True,  # noqa: ARG001  # same
    classes_to_plot: Sequence[Any] | None = None,
) -> CustomChart:
    """Do as `runfold.plot.pr_curve`. Averages over classes are not drawn."""
    _moved("precision_recall", "pr_curve")
    return pr_curve(y_true, y_probas, labels, classes_to_plot)


def roc(  # noqa: PLR0917  # as above
    y_true: Iterable[Any],
    y_probas: Iterable[Any],
    labels: Sequence[str] | None = None,
    plot_micro: bool = True,  # noqa: ARG001  # as above
    plot_macro: bool = True,  # noqa: ARG001  # same
    classes_to_plot: Sequence[Any] | None = None,
) -> CustomChart:
    """Do as `runfold.plot.roc_curve`. Averages over classes are not drawn."""
    _moved("roc", "roc_curve")
    return roc_curve(y_true, y_probas, labels, classes_to_plot)


ROC = roc


def confusion_matrix(
    y_true: Sequence[Any], y_pred: Sequence[Any], labels: Sequence[str] | None = None, **_: Any
) -> CustomChart:
    """Do as `runfold.plot.confusion_matrix`."""
    _moved("confusion_matrix", "confusion_matrix")
    return _confusion_matrix(y_true=y_true, preds=y_pred, class_names=labels)


def _moved(old: str, new: str) -> None:
    terminal.warn_once(f"runfold.plots.{old} is deprecated, use runfold.plot.{new}")
