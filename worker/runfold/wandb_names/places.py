"""Which of W&B's modules runfold stands in for, and where their names are found in it."""

from __future__ import annotations

import importlib
from typing import Any

_API = (
    "runfold.api",
    "runfold.api.files",
    "runfold.api.artifacts",
    "runfold.api.catalogue",
    "runfold.artifacts.collections",
)
_SDK = ("runfold",)
_ERRORS = ("runfold.errors", "runfold.module_names")
_MEDIA = ("runfold.data_types",)
_VALUES = ("runfold.media.media",)

#: Modules in which the names of one of W&B's are looked for, in this order.
MODULES: dict[str, tuple[str, ...]] = {
    "wandb": _SDK,
    "wandb.apis": _API,
    "wandb.apis.public": _API,
    "wandb.data_types": _MEDIA,
    "wandb.env": ("runfold.wandb_names.env",),
    "wandb.errors": _ERRORS,
    "wandb.errors.errors": _ERRORS,
    "wandb.errors.term": ("runfold.module_names",),
    "wandb.plot": ("runfold.plot",),
    "wandb.sdk": _SDK,
    "wandb.sdk.artifacts": ("runfold.artifacts.artifact", "runfold.artifacts.ttl"),
    "wandb.sdk.artifacts.artifact": ("runfold.artifacts.artifact",),
    "wandb.sdk.artifacts.artifact_ttl": ("runfold.artifacts.ttl",),
    "wandb.sdk.data_types": _MEDIA,
    "wandb.sdk.data_types.base_types": _VALUES,
    "wandb.sdk.data_types.base_types.media": _VALUES,
    "wandb.sdk.data_types.base_types.wb_value": _VALUES,
    "wandb.sdk.data_types.histogram": _MEDIA,
    "wandb.sdk.data_types.html": _MEDIA,
    "wandb.sdk.data_types.image": _MEDIA,
    "wandb.sdk.data_types.table": _MEDIA,
    "wandb.sdk.data_types.video": _MEDIA,
    "wandb.sdk.lib": _SDK,
    "wandb.sdk.lib.config_util": ("runfold.errors",),
    "wandb.sdk.lib.disabled": ("runfold.disabled",),
    "wandb.sdk.lib.runid": ("runfold.util",),
    "wandb.sdk.lib.telemetry": ("runfold.wandb_names.telemetry",),
    "wandb.sdk.wandb_alerts": _SDK,
    "wandb.sdk.wandb_config": ("runfold.config",),
    "wandb.sdk.wandb_init": ("runfold.init",),
    "wandb.sdk.wandb_metric": ("runfold.metric",),
    "wandb.sdk.wandb_run": ("runfold.run", "runfold.init"),
    "wandb.sdk.wandb_settings": ("runfold.settings",),
    "wandb.sdk.wandb_summary": ("runfold.summary",),
    "wandb.util": ("runfold.util",),
    "wandb.wandb_run": ("runfold.run",),
}

#: (module, name) -> module and name, where they differ from the rule above.
NAMES: dict[tuple[str, str], tuple[str, str]] = {
    ("wandb", "api"): ("runfold.wandb_names.session", "api"),
    ("wandb", "ensure_configured"): ("runfold.wandb_names.session", "ensure_configured"),
    ("wandb", "wandb_lib"): ("wandb.sdk", "lib"),
    ("wandb", "wandb_sdk"): ("wandb", "sdk"),
    ("wandb.apis", "PublicApi"): ("runfold.api", "Api"),
    ("wandb.sdk.data_types.base_types.wb_value", "WBValue"): ("runfold.wb_value", "WBValue"),
    ("wandb.sdk.lib", "RunDisabled"): ("runfold.disabled", "DisabledRun"),
    ("wandb.sdk.lib.disabled", "RunDisabled"): ("runfold.disabled", "DisabledRun"),
}


def find_name(module: str, name: str) -> Any:
    """Return what W&B's `module` has by this name.

    Raises:
        AttributeError: Runfold has none.
    """
    place, its_name = NAMES.get((module, name), ("", name))
    for each in (place,) if place else MODULES[module]:
        found = importlib.import_module(each)
        try:
            return getattr(found, its_name)
        except AttributeError:
            continue
    raise AttributeError(f"module {module!r} has no attribute {name!r}: it is runfold here (docs/wandb.md)")
