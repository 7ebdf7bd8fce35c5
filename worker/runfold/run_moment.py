"""RunMoment: a step of a run, as `fork_from` and `resume_from` name it: "id?_step=200"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from runfold.errors import ValidationError


@dataclass(frozen=True, slots=True)
class RunMoment:
    """Step `value` of run `run`."""

    run: str
    value: int
    metric: str = "_step"

    def __str__(self) -> str:
        return f"{self.run}?{self.metric}={self.value}"

    @classmethod
    def parse(cls, setting: str, text: str) -> Self:
        """Read "id?_step=N".

        Raises:
            ValidationError: It has another form, or another metric than _step.
        """
        run, mark, condition = text.partition("?")
        metric, equals, number = condition.partition("=")
        if not run or "/" in run or not mark or not equals:
            raise ValidationError(
                setting,
                f"Could not parse passed run moment string '{text}', expected '<run>?<metric>=<value>'",
                text,
            )
        if metric != "_step":
            raise ValidationError(setting, f"Only the metric '_step' is supported, got '{metric}'", text)
        try:
            value = int(float(number))
        except (ValueError, OverflowError):
            raise ValidationError(setting, f"'{number}' is not a step", text) from None
        return cls(run, value)
