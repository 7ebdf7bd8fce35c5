"""A figure: a measured number beside its goal; printed as one line, collected for the JSON file."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `goal` is None for peers and for figures that only inform."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    more_is_better: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.more_is_better else self.value <= self.goal

    def __str__(self) -> str:
        goal = ""
        if self.goal is not None:
            sign = ">=" if self.more_is_better else "<="
            goal = f"goal {sign} {self.goal:,g}   {'ok' if self.met else 'MISSED'}"
        return f"{self.name:<58} {self.value:>14,.2f} {self.unit:<12} {goal}"


@dataclass(slots=True)
class Report:
    """Collects figures and prints each as it comes."""

    figures: list[Figure] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, figure: Figure) -> None:
        """Take a figure and print its line."""
        self.figures.append(figure)
        print(figure, flush=True)

    def problem(self, text: str) -> None:
        """Say that something could not be measured."""
        self.problems.append(text)
        print(f"-- {text}", flush=True)

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        machine = {
            "cpu_count": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "kernel": platform.release(),
            "python": platform.python_version(),
        }
        figures = [{**asdict(figure), "met": figure.met} for figure in self.figures]
        path.write_text(
            json.dumps({"machine": machine, "figures": figures, "problems": self.problems}, indent=1) + "\n"
        )
