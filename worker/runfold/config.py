"""run.config: W&B's container, change rule and sources. In: what users set. Out: what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runfold import config_artifacts, config_values, terminal
from runfold.errors import ConfigError

#: Reserved key: stored with the config, hidden from keys() and items().
RESERVED = "_wandb"
DEFAULTS_FILE = "config-defaults.yaml"


class Config:
    """Dict-like, with attribute access. A key keeps its value unless a change is allowed. Not thread-safe."""

    def __init__(self, on_change: Callable[[dict[str, Any]], None] | None = None) -> None:
        object.__setattr__(self, "_items", {RESERVED: {}})
        object.__setattr__(self, "_locked", {})
        object.__setattr__(self, "_on_change", on_change)
        object.__setattr__(self, "_allow_by_default", False)
        #: Says that an artifact is an input of the run, and returns it.
        object.__setattr__(self, "_use_artifact", None)

    def keys(self) -> list[str]:
        """Return the keys that do not begin with an underscore."""
        return [key for key in self._items if not key.startswith("_")]

    def items(self) -> list[tuple[str, Any]]:
        """Return (key, value) pairs of `keys()`."""
        return [(key, value) for key, value in self._items.items() if not key.startswith("_")]

    def as_dict(self) -> dict[str, Any]:
        """Return a new dict of `items()`."""
        return dict(self.items())

    def _as_dict(self) -> dict[str, Any]:
        return dict(self._items)

    def _as_stored(self) -> dict[str, Any]:
        """Return `items()` as plain values: artifacts as they are kept."""
        return config_artifacts.stored(self.as_dict())

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, or `default`."""
        return self._items.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._apply({key: value}, allow=None)

    def __getattr__(self, key: str) -> Any:
        try:
            return self.__dict__["_items"][key]
        except KeyError:
            raise AttributeError(f"{type(self)!r} object has no attribute {key!r}") from None

    def __setattr__(self, key: str, value: Any) -> None:
        self._apply({key: value}, allow=None)

    def __repr__(self) -> str:
        return str(dict(self.items()))

    __str__ = __repr__

    def update(self, d: Any, allow_val_change: bool | None = None) -> None:
        """Set many keys; nothing is set if one of them may not change.

        Raises:
            ConfigError: A key has another value already and `allow_val_change` is not true.
        """
        self._apply(parse_source(d), allow=allow_val_change)

    def setdefaults(self, d: Any) -> None:
        """Set the keys that are missing."""
        given = {strip_key(key): value for key, value in parse_source(d).items()}
        self._apply({key: value for key, value in given.items() if key not in self._items}, allow=None)

    def update_locked(self, d: Any, user: str | None = None, _allow_val_change: bool | None = None) -> None:
        """Set keys that later updates can't change; `user` names who locked them."""
        self._lock(parse_source(d), user, _allow_val_change)

    def merge_locked(self, d: Any, user: str | None = None, _allow_val_change: bool | None = None) -> None:
        """As `update_locked`, but dicts are merged into the dicts that are there."""
        given = {strip_key(key): value for key, value in parse_source(d).items()}
        merged = {key: _deep_merge(self._items.get(key), value) for key, value in given.items()}
        self._lock(merged, user, _allow_val_change)

    def _inherit(self, found: Mapping[str, Any]) -> None:
        """Take what the run had before: shown here, under what was given, and not said again."""
        self._items.update({key: value for key, value in found.items() if key not in self._items})

    def _pin(self, name: str, value: Any) -> None:
        """Set one entry of the reserved key."""
        self._store({RESERVED: {**self._items[RESERVED], name: value}})

    def _lock(self, given: Mapping[str, Any], user: str | None, allow: bool | None) -> None:
        changed = self._checked(given, allow, user=user)
        for key in changed:
            self._locked[key] = user
        self._store(changed)

    def _apply(self, given: Mapping[str, Any], *, allow: bool | None) -> None:
        self._store(self._checked(given, self._allow_by_default if allow is None else allow, user=None))

    def _checked(self, given: Mapping[str, Any], allow: bool | None, *, user: str | None) -> dict[str, Any]:
        """Return what is to be stored: converted values by stripped key, locked keys left out."""
        changed: dict[str, Any] = {}
        for raw_key, raw_value in given.items():
            key = strip_key(raw_key)
            locked_by = self._locked.get(key)
            if key in self._locked and locked_by != user:
                terminal.warn(f"Config item {key!r} was locked by {locked_by!r} (ignored update).")
                continue
            if config_artifacts.is_artifact(raw_value):
                value = raw_value if self._use_artifact is None else self._use_artifact(raw_value)
            else:
                config_artifacts.refuse_inside(raw_value)
                value = config_values.convert(raw_value)
            if key == RESERVED and isinstance(value, dict):
                value = {**self._items[RESERVED], **value}
            elif not allow and key in self._items and value != self._items[key]:
                raise ConfigError(
                    f'Attempted to change value of key "{key}" from {self._items[key]} to {value}\n'
                    "If you really want to do this, pass allow_val_change=True to config.update()"
                )
            changed[key] = value
        return changed

    def persist(self) -> None:
        """Store all values again: for dicts and lists in the config that were changed in place."""
        kept = {
            key: config_values.convert(value)
            for key, value in self._items.items()
            if key != RESERVED and not config_artifacts.is_artifact(value)
        }
        self._store(kept)

    def _store(self, changed: dict[str, Any]) -> None:
        if self._on_change is not None:
            # First: it refuses when the run is finished. A key without a name is seen here only, as in W&B.
            named = {key: value for key, value in changed.items() if key}
            self._on_change(config_artifacts.stored(named))
        self._items.update(changed)


class ConfigStatic:
    """A read-only copy of a config as it was when asked for."""

    def __init__(self, config: Config) -> None:
        object.__setattr__(self, "__dict__", dict(config.items()))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("Error: run.config_static is a readonly object")

    def __setitem__(self, key: str, value: Any) -> None:
        raise AttributeError("Error: run.config_static is a readonly object")

    def keys(self) -> Iterable[str]:
        """Return the keys."""
        return self.__dict__.keys()

    def __getitem__(self, key: str) -> Any:
        return self.__dict__[key]

    def __str__(self) -> str:
        return str(self.__dict__)


def strip_key(key: str) -> str:
    """Return the key without dashes at its ends: `--lr` becomes `lr`."""
    return str.__str__(key.strip("-"))


def parse_source(source: Any) -> dict[str, Any]:
    """Return what a config argument holds: a dict, namespace, Config, absl flags, or the path of a YAML file.

    Raises:
        TypeError: It is none of these.
        ConfigError: The file is missing or no config file.
    """
    if isinstance(source, Config):
        return dict(source.items())
    # Of other mappings (OmegaConf's, UserDict) the client stores how they are made; what they hold is meant.
    if isinstance(source, dict) or (isinstance(source, Mapping) and hasattr(source, "__dict__")):
        return dict(source)
    if isinstance(source, (str, Path)):
        return read_yaml(Path(source))
    module = type(source).__module__
    if module == "absl.flags._flagvalues":
        return {name: source[name].value for name in dir(source)}
    if not hasattr(source, "__dict__"):
        raise TypeError("config must be a dict or have a __dict__ attribute.")
    return dict(vars(source))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the values of a W&B config file: `key: {value: ...}`.

    Raises:
        ConfigError: The file is missing, or holds something else.
    """
    import yaml

    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Couldn't read config file: {path}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"Config file {path} is not YAML: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"Config file {path} must hold a mapping")
    return {
        str(key): entry["value"] if isinstance(entry, dict) and "value" in entry else entry
        for key, entry in loaded.items()
        if key not in ("wandb_version", RESERVED)
    }


def read_defaults(folder: Path) -> dict[str, Any]:
    """Return the values of `config-defaults.yaml` in a folder; nothing if there is none."""
    path = folder / DEFAULTS_FILE
    return read_yaml(path) if path.is_file() else {}


def _deep_merge(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{key: _deep_merge(old.get(key), value) for key, value in new.items()}}
