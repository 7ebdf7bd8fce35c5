"""Modules by W&B's names. In: imports of `wandb` and its modules that `places` lists. Out: runfold's names.

What W&B has and runfold has not is an ImportError or AttributeError that says so.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder, PathDistribution
from types import ModuleType
from typing import Any

from runfold.wandb_names.path_entry import PATH
from runfold.wandb_names.places import MODULES, NAMES, find_name

#: The release whose API runfold has: libraries ask for it before they use it.
WANDB_VERSION = "0.31.0"


class WandbModule(ModuleType):
    """One of W&B's modules. Its names are looked up when they are asked for: some of them change."""

    def __getattr__(self, name: str) -> Any:
        if name == "__version__" and self.__name__ == "wandb":
            return WANDB_VERSION
        if name == "__all__":
            return [each for each in dir(self) if not each.startswith("_")]
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        submodule = f"{self.__name__}.{name}"
        if submodule in MODULES and (self.__name__, name) not in NAMES:
            return importlib.import_module(submodule)
        return find_name(self.__name__, name)

    def __dir__(self) -> Iterable[str]:
        found = {name for module, name in NAMES if module == self.__name__}
        for place in map(importlib.import_module, MODULES[self.__name__]):
            found.update(getattr(place, "__all__", None) or dir(place))
        return sorted(found)

    def __reduce__(self) -> Any:
        """Pickle by name: functions that have it as a global are sent to processes (Ray, cloudpickle)."""
        return module_in_this_process, (self.__name__,)


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return WandbModule(spec.name, f"runfold under the name of W&B's {spec.name}.")

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: see WandbModule."""


class Finder(DistributionFinder):
    """Finds `wandb` and its modules before any that is installed."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  # as Python calls it
        target: ModuleType | None = None,  # noqa: ARG002  # same
    ) -> ModuleSpec | None:
        """Return the spec of one of our modules; None for all others: nobody else has one of W&B's."""
        return ModuleSpec(fullname, _Loader(), is_package=True) if fullname in MODULES else None

    def find_distributions(
        self, context: DistributionFinder.Context = DistributionFinder.Context()
    ) -> Iterable[Distribution]:
        """Yield the distribution that `wandb` is said to come from."""
        if context.name is not None and context.name.lower() == "wandb":
            yield PathDistribution(PATH / f"wandb-{WANDB_VERSION}.dist-info")


def install() -> None:
    """Let `import wandb` give runfold in this process. Again does nothing.

    Raises:
        ImportError: The real one was imported before.
    """
    if any(isinstance(finder, Finder) for finder in sys.meta_path):
        return
    if sys.modules.get("wandb") is not None:
        raise ImportError(
            "wandb was imported before: put `import runfold.as_wandb` in front of whatever imports it",
            name="wandb",
        )
    for name in [name for name in sys.modules if name.startswith("wandb.")]:  # of an import that failed
        del sys.modules[name]
    sys.meta_path.insert(0, Finder())


def module_in_this_process(name: str) -> ModuleType:
    """Return what a pickle that was made under `as_wandb` names so; raises as `install`."""
    install()
    return importlib.import_module(name)
