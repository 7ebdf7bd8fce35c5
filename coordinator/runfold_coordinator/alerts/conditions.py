"""What makes a rule true for a run: facts in, causes out. Pure.

A cause is raised once, and again only after it was not among the causes any more; so its key names what
lasts (a state, an attempt, a metric), not the words that describe it, which may change meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runfold_coordinator.alerts.config import When
from runfold_coordinator.api.patterns import Pattern
from runfold_coordinator.states import TERMINAL

#: Longest key of a cause; of a longer one a hash is kept.
MAX_KEY_CHARS = 200
#: Ranks, metrics, ... that a text names before it counts the rest.
NAMED = 4


@dataclass(frozen=True, slots=True)
class RankFacts:
    """One process of the newest attempt."""

    rank: int | None
    label: str | None
    host: str | None
    state: str
    reason: str
    unreachable: bool

    @property
    def name(self) -> str:
        """How a text calls it."""
        return f"rank {self.rank}" if self.rank is not None else f"writer {self.label or '?'}"


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What rules may know of a run, as committed."""

    run_pk: int
    entity: str
    project: str
    run_id: str
    name: str | None
    group: str | None
    tags: tuple[str, ...]
    state: str
    reason: str
    unreachable: bool = False
    stalled: bool = False
    verdicts: Mapping[str, Any] = field(default_factory=dict)
    first_failure: Mapping[str, Any] | None = None
    #: Of the newest attempt; () where no rule asks for them.
    ranks: Sequence[RankFacts] = ()
    attempt: int = 1
    dead_letters: int = 0
    gaps: int = 0
    #: Newest moment at which anything of it happened, by the server's clock or its processes'.
    moved_unix_s: float = 0.0

    @property
    def path(self) -> str:
        """entity/project/id."""
        return f"{self.entity}/{self.project}/{self.run_id}"

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a rule is true. `fields` are for templates: rank, host, metric, value, step."""

    key: str
    detail: str
    fields: Mapping[str, Any] = field(default_factory=dict)


class RunFilter:
    """The patterns of a rule, compiled once."""

    def __init__(self, when: When) -> None:
        said = {name: getattr(when, name) for name in ("entity", "project", "group", "run", "name", "tags")}
        self._patterns = {name: Pattern(pattern) for name, pattern in said.items() if pattern is not None}

    def accepts(self, run: RunFacts) -> bool:
        """Tell whether every pattern occurs in the run's."""
        return all(self._found(name, pattern, run) for name, pattern in self._patterns.items())

    @staticmethod
    def _found(name: str, pattern: Pattern, run: RunFacts) -> bool:
        if name == "tags":
            return any(pattern.search(tag) for tag in run.tags)
        text = run.run_id if name == "run" else getattr(run, name)
        return text is not None and pattern.search(text)


def causes_of(when: When, run: RunFacts) -> list[Cause]:
    """Return what makes the rule true now; metrics and Run.alert() are looked at elsewhere."""
    return list(_causes(when, run))


def short_key(key: str) -> str:
    """Return the key; where it is long, or no database could keep it, its beginning and a hash of it."""
    if len(key) <= MAX_KEY_CHARS and key.isprintable():
        return key
    shown = "".join(char for char in key[:100] if char.isprintable())
    return shown + ":" + hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def _causes(when: When, run: RunFacts) -> Iterator[Cause]:
    if when.state and run.state in when.state:
        yield Cause("state", f"{run.state}: {run.reason}" if run.reason else run.state, _of_failure(run))
    elif when.rank_state:
        yield from _of_ranks(when, run)
    elif when.unreachable and run.unreachable and not run.is_terminal:
        silent = [rank for rank in run.ranks if rank.unreachable]
        yield Cause("unreachable", f"nothing heard of {_named([rank.name for rank in silent]) or 'it'}")
    elif when.stalled and run.stalled and not run.is_terminal:
        yield _of_stall(run.verdicts.get("stall") or {})
    elif when.straggler:
        for found in run.verdicts.get("stragglers") or ():
            who = _who(found)
            fields = {"rank": found.get("rank"), "host": found.get("host")}
            yield Cause(short_key(f"straggler:{who}"), f"{who} is slow: {found.get('why') or '?'}", fields)
    elif when.desync:
        for found in run.verdicts.get("desync") or ():
            metric, step = str(found.get("metric")), found.get("step")
            detail = f"{metric} differs between ranks since step {step}: ranks {_listed(found.get('ranks'))}"
            yield Cause(short_key(f"desync:{metric}"), detail, {"metric": metric, "step": step})
    elif when.dead_letters and run.dead_letters:
        yield Cause(
            "dead_letters", f"{run.dead_letters} records could not be stored", {"value": run.dead_letters}
        )
    elif when.gaps and run.gaps:
        yield Cause("gaps", f"{run.gaps} records were lost where they were logged", {"value": run.gaps})


def _of_ranks(when: When, run: RunFacts) -> Iterator[Cause]:
    """One cause an attempt: of a thousand ranks that one failure took along, one is worth a message."""
    found = [rank for rank in run.ranks if rank.state in when.rank_state]
    if not found:
        return
    blamed = run.first_failure
    if blamed is not None and blamed.get("state") in when.rank_state:
        who, host, state, reason = _who(blamed), blamed.get("host"), blamed["state"], blamed.get("reason")
        rank = blamed.get("rank")
    else:
        first = found[0]
        who, host, state, reason, rank = first.name, first.host, first.state, first.reason, first.rank
    others = f"; {len(found) - 1} more" if len(found) > 1 else ""
    detail = f"{who}{f' on {host}' if host else ''} {state}: {reason or '?'}{others}"
    yield Cause(f"rank:{run.attempt}", detail, {"rank": rank, "host": host, "reason": reason})


def _of_failure(run: RunFacts) -> dict[str, Any]:
    failure = run.first_failure or {}
    return {"rank": failure.get("rank"), "host": failure.get("host")}


def _of_stall(stall: Mapping[str, Any]) -> Cause:
    waiting = [each for each in stall.get("waiting_for") or () if isinstance(each, Mapping)]
    names = _named(
        [f"{_who(each)} ({each.get('why')})" if each.get("why") else _who(each) for each in waiting]
    )
    step = stall.get("step")
    detail = "no progress" + (f" since step {step}" if step is not None else "")
    fields = {"step": step, "rank": waiting[0].get("rank") if waiting else None}
    return Cause("stalled", detail + (f"; it waits for {names}" if names else ""), fields)


def _who(found: Mapping[str, Any]) -> str:
    rank = found.get("rank")
    return (
        f"rank {rank}" if rank is not None else f"writer {found.get('label') or found.get('writer') or '?'}"
    )


def _named(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _listed(values: Any) -> str:
    return _named([str(value) for value in values]) if isinstance(values, list | tuple) else "?"
