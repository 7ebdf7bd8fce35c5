"""Ids and names of runs: random, or computed from a job's identity by every rank alone."""

from __future__ import annotations

import os

from runfold.errors import UsageError
from runfold.protocol.identity import NODE_ENTITY

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
#: Length of a run id that we make.
ID_LENGTH = 8

_ADJECTIVES = [
    "amber",
    "ancient",
    "autumn",
    "azure",
    "bold",
    "brave",
    "breezy",
    "bright",
    "brisk",
    "calm",
    "clear",
    "clever",
    "cool",
    "copper",
    "crimson",
    "crisp",
    "curious",
    "dapper",
    "dawn",
    "deep",
    "eager",
    "early",
    "easy",
    "fair",
    "fast",
    "fearless",
    "fine",
    "fresh",
    "frosty",
    "gentle",
    "glad",
    "golden",
    "grand",
    "happy",
    "hidden",
    "honest",
    "humble",
    "icy",
    "jolly",
    "keen",
    "kind",
    "late",
    "light",
    "lively",
    "lucky",
    "mellow",
    "mild",
    "misty",
    "noble",
    "north",
    "pale",
    "patient",
    "plain",
    "polar",
    "proud",
    "pure",
    "quick",
    "quiet",
    "rapid",
    "rare",
    "royal",
    "rustic",
    "sage",
    "silent",
    "silver",
]
_NOUNS = [
    "anchor",
    "arch",
    "aspen",
    "badger",
    "bay",
    "beacon",
    "birch",
    "bloom",
    "breeze",
    "brook",
    "canyon",
    "cedar",
    "cliff",
    "cloud",
    "comet",
    "coral",
    "cove",
    "creek",
    "crest",
    "dawn",
    "delta",
    "dune",
    "eagle",
    "ember",
    "falcon",
    "fern",
    "field",
    "fjord",
    "flame",
    "forest",
    "fox",
    "glade",
    "glen",
    "grove",
    "harbor",
    "hawk",
    "heron",
    "hill",
    "island",
    "ivy",
    "lake",
    "lantern",
    "leaf",
    "lynx",
    "maple",
    "marsh",
    "meadow",
    "moon",
    "moss",
    "oak",
    "orbit",
    "otter",
    "peak",
    "pine",
    "planet",
    "pond",
    "prairie",
    "reef",
    "ridge",
    "river",
    "robin",
]


def random_id(length: int = ID_LENGTH) -> str:
    """Return a new run id: `length` characters of [0-9a-z]."""
    # Not the random module: training scripts seed it, and all ranks would get the same id.
    return _base36(int.from_bytes(os.urandom(length + 4), "big"), length)


def hashed_id(*parts: object) -> str:
    """Return the run id that these parts always give: 8 characters of [0-9a-z]."""
    return _base36(_hash(*parts), ID_LENGTH)


def readable_name(run_id: str) -> str:
    """Return the display name of a run that was given none. From its id, so that all its writers agree."""
    number = _hash("name", run_id)
    number, adjective = divmod(number, len(_ADJECTIVES))
    number, noun = divmod(number, len(_NOUNS))
    return f"{_ADJECTIVES[adjective]}-{_NOUNS[noun]}-{number % 1000}"


def check_run_id(run_id: str) -> str:
    """Return `run_id` if it can be one.

    Raises:
        UsageError: It is empty, has surrounding blanks, or holds one of : ; , # ? / '
    """
    if not run_id:
        raise UsageError("Run ID cannot be empty")
    if not run_id.strip():
        raise UsageError("Run ID cannot contain only whitespace")
    if run_id != run_id.strip():
        raise UsageError("Run ID cannot start or end with whitespace")
    refused = ":;,#?/'"
    if set(run_id) & set(refused):
        raise UsageError(f"Run ID cannot contain the characters: {refused}, as {run_id!r} does")
    return run_id


def check_project(project: str) -> str:
    """Return `project` if it can be a project's name.

    Raises:
        UsageError: More than 128 characters, or one of / \\ # ? % :
    """
    if len(project) > 128:
        raise UsageError(f"Invalid project name {project!r}: exceeded 128 characters")
    _refuse_characters(project, "/\\#?%:", f"Invalid project name {project!r}")
    return project


def check_entity(entity: str) -> str:
    """Return `entity` if it can be one; UsageError if it could not be part of a run's path."""
    _refuse_characters(entity, "/\\#?%:", f"Invalid entity {entity!r}")
    if entity == NODE_ENTITY:
        raise UsageError(f"Invalid entity {entity!r}: it is kept for what agents say of their nodes")
    return entity


def _refuse_characters(text: str, refused: str, complaint: str) -> None:
    found = sorted({character for character in text if character in refused})
    if found:
        raise UsageError(f"{complaint}: cannot contain characters {refused!r}, found {''.join(found)!r}")


def _hash(*parts: object) -> int:
    import hashlib  # OpenSSL takes milliseconds to load; only init() needs it

    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), "big")


def _base36(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 36)
        digits.append(_ALPHABET[digit])
    return "".join(digits)
