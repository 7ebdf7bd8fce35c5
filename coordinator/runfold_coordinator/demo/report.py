"""Prints the demo's figures for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def print_report(figures: dict[str, Any], data_dir: Path | None) -> None:
    """Print both results and where to look at them."""
    console = Console(highlight=False)
    ddp, cv = figures["ddp"], figures["cv"]
    loss, accuracy = ddp["loss"], cv["accuracy"]
    counts = ddp["accounting"]

    table = Table(title="Aggregated by the coordinator, read back through runfold.Api", title_justify="left")
    table.add_column("what")
    table.add_column("result")
    table.add_row(
        f"data-parallel, {ddp['ranks']} ranks\n({ddp['launcher']}, shared run {ddp['run']})",
        f"{ddp['state']}, {ddp['steps']} steps\n"
        f"loss at step {ddp['last_step']} over ranks: mean {loss['mean']:.4f}, "
        f"min {loss['min']:.4f} (rank {loss['argmin']}), max {loss['max']:.4f} (rank {loss['argmax']})\n"
        f"test accuracy {ddp['test_accuracy']:.4f}",
    )
    table.add_row(
        f"cross-validation, {len(cv['folds'])} folds\n(one run each, group {cv['group']})",
        f"accuracy {accuracy['mean']:.4f} ± {accuracy['std']:.4f} over {accuracy['n']} folds, "
        f"95 % interval [{accuracy['ci95_low']:.4f}, {accuracy['ci95_high']:.4f}]\n"
        + ", ".join(f"fold {fold}: {value:.4f}" for fold, value in sorted(cv["folds"].items())),
    )
    table.add_row(
        "records of the shared run",
        f"acknowledged {counts['acknowledged']} = stored {counts['stored']} + gaps {counts['declared_gaps']} "
        f"+ dead letters {counts['dead_letters']} + pending {counts['pending']}",
    )
    console.print(table)
    console.print(f"{figures['seconds']} s in all. Look at it: [bold]{figures['url']}[/bold]")
    if data_dir is not None:
        console.print(f"The data stays in {data_dir}; `runfold up --data {data_dir}` serves it again.")
