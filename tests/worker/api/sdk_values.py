"""Values of each kind, logged by a training process: a part of sdk_checks.py."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import runfold


def media(run: runfold.Run, folder: Path) -> dict[str, bool]:
    """Log one of each kind."""
    import numpy as np

    (folder / "shape.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    (folder / "water.pdb").write_text(
        "HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O\n"
    )
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    made = {
        "Histogram": lambda: runfold.Histogram(np.arange(10.0)),
        "Image": lambda: runfold.Image(pixels, caption="black"),
        "Video": lambda: runfold.Video(np.zeros((2, 3, 8, 8), dtype=np.uint8), fps=4),
        "Audio": lambda: runfold.Audio(np.zeros(800, dtype=np.float32), sample_rate=8000),
        "Table": lambda: runfold.Table(columns=["a"], data=[[1], [2]]),
        "Html": lambda: runfold.Html("<b>x</b>"),
        "Object3D": lambda: runfold.Object3D(str(folder / "shape.obj")),
        "Molecule": lambda: runfold.Molecule(str(folder / "water.pdb")),
    }
    return {name: _logs(run, f"media_{name}", make) for name, make in made.items()}


def charts(run: runfold.Run, _folder: Path) -> dict[str, bool]:
    """Log one of each chart."""
    table = runfold.Table(columns=["x", "y"], data=[[1, 2.0], [2, 3.0]])
    truth, scores = [0, 1, 1, 0], [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]]
    made = {
        "plot.line": lambda: runfold.plot.line(table, "x", "y", title="t"),
        "plot.scatter": lambda: runfold.plot.scatter(table, "x", "y"),
        "plot.bar": lambda: runfold.plot.bar(table, "x", "y"),
        "plot.histogram": lambda: runfold.plot.histogram(table, "y"),
        "plot.line_series": lambda: runfold.plot.line_series([1, 2], [[1, 2], [2, 3]], keys=["p", "q"]),
        "plot.pr_curve": lambda: runfold.plot.pr_curve(truth, scores, ["a", "b"]),
        "plot.roc_curve": lambda: runfold.plot.roc_curve(truth, scores, ["a", "b"]),
        "plot.confusion_matrix": lambda: runfold.plot.confusion_matrix(
            y_true=truth, preds=[0, 1, 0, 0], class_names=["a", "b"]
        ),
        "plots.precision_recall": lambda: runfold.plots.precision_recall(truth, scores, ["a", "b"]),
        "runfold.plot_table": lambda: runfold.plot_table("wandb/line/v0", table, {"x": "x", "y": "y"}),
    }
    return {name: _logs(run, f"chart_{name.replace('.', '_')}", make) for name, make in made.items()}


def _logs(run: runfold.Run, key: str, make: Callable[[], Any]) -> bool:
    try:
        run.log({key: make()})
    except Exception:
        traceback.print_exc()
        return False
    return True
