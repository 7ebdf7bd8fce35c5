"""What stands above the table: how the run goes, why, whom the others wait for, what the GPUs do. Pure.

In: the live document. Out: lines of (text, style name) parts, cut to the terminal's width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len

from runfold.top.columns import STATE_STYLES, StyleName, gpu_value, shown_state
from runfold.top.texts import UNKNOWN, age_text, clean, count_text, fitted, number, share_text, span_text

Part = tuple[str, StyleName]
Line = list[Part]
#: Of what is found wrong at several ranks, so many are named.
_NAMED = 3
#: A trouble is told in at most so many lines.
_WRAPPED = 3
#: On 24 lines half of them are left for the ranks.
MOST_LINES = 10
#: Texts of users that stand between facts are cut here.
_MOST_CHARS = 120


def run_lines(document: Mapping[str, Any], width: int) -> list[Line]:
    """Return the lines for a run; what is wrong with it may take several, up to MOST_LINES in all."""
    run = _map(document.get("run"))
    lines: list[Line] = [_head(run)]
    lines += [_reason(run)] if run.get("reason") else []
    for text, style in _troubles(run):
        lines += [[(part, style)] for part in _wrapped(text, width)]
    gpus = gpu_text(document)
    lines += [[(gpus, "")]] if gpus else []
    return [_cut(line, width) for line in lines[:MOST_LINES]]


def _troubles(run: Mapping[str, Any]) -> Iterator[Part]:
    yield failure_text(run), "bad"
    yield stall_text(run), "bad"
    yield stragglers_text(run), "notice"
    yield desync_text(run), "notice"


def _wrapped(text: str, width: int) -> list[str]:
    """Return a text in up to three lines, broken between words."""
    lines: list[str] = []
    for word in text.split():
        if lines and (cell_len(lines[-1]) + 1 + cell_len(word) <= width or len(lines) == _WRAPPED):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _head(run: Mapping[str, Any]) -> Line:
    state = shown_state(run)
    parts: Line = [
        (clean(f"{run.get('entity')}/{run.get('project')}/{run.get('id')}"), ""),
        (clean(state), STATE_STYLES.get(state, "")),
        (age_text(run.get("elapsed_s")), ""),
    ]
    step = number(run.get("last_step"))
    if step is not None and step >= 0:
        parts.append((f"step {count_text(step)}", ""))
    if (pace := number(run.get("steps_per_s"))) is not None:
        parts.append((f"{pace:.3g}/s" if pace < 1000 else f"{pace:.0f}/s", ""))
    if (goodput := number(run.get("goodput_ratio"))) is not None:
        parts.append((f"goodput {100 * goodput:.0f}%", ""))
    if (number(run.get("attempt")) or 1) > 1:
        parts.append((f"attempt {count_text(run['attempt'])}", ""))
    states = _map(run.get("states"))
    if sum(number(count) or 0 for count in states.values()) > 1:
        counts = sorted(states.items(), key=lambda pair: -(number(pair[1]) or 0))
        parts.append((", ".join(f"{count_text(count)} {clean(name)}" for name, count in counts), "dim"))
    return parts


def _reason(run: Mapping[str, Any]) -> Line:
    sure = {"inferred": " (inferred)", "said": " (it said so)"}.get(str(run.get("confidence")), "")
    return [(f"{clean(run['reason'])[:_MOST_CHARS]}{sure}", "dim")]


def failure_text(run: Mapping[str, Any]) -> str:
    """Return who failed first and why; "" while nobody has."""
    failure = _map(run.get("first_failure"))
    if not failure:
        return ""
    return f"first failure: {_who(failure)}: {clean(failure.get('reason') or UNKNOWN)[:_MOST_CHARS]}"


def stall_text(run: Mapping[str, Any]) -> str:
    """Return whom the others wait for, at which step and why; "" while the run goes on."""
    stall = _map(_map(run.get("verdicts")).get("stall"))
    if not stall:
        return "stalled: no progress" if run.get("stalled") else ""
    waited_for = [_map(each) for each in _list(stall.get("waiting_for"))]
    at = f" at step {count_text(stall['step'])}" if number(stall.get("step")) is not None else ""
    if not waited_for:
        return f"stalled{at}: no rank goes on"
    named = "; ".join(_who(each) + _because(each) for each in waited_for[:_NAMED])
    more = f"; {len(waited_for) - _NAMED} more" if len(waited_for) > _NAMED else ""
    return f"stalled{at}: others wait for {named}{more}"


def stragglers_text(run: Mapping[str, Any]) -> str:
    """Return which ranks hold the others up; "" where none does."""
    found = [_map(each) for each in _list(_map(run.get("verdicts")).get("stragglers"))]
    texts = []
    for each in found[:_NAMED]:
        excess_s = number(each.get("excess_s"))
        cost = "" if excess_s is None else f" +{span_text(excess_s)} a step"
        texts.append(f"{_who(each)}{cost}{_because(each)}")
    more = f"; {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"slow: {'; '.join(texts)}{more}" if texts else ""


def desync_text(run: Mapping[str, Any]) -> str:
    """Return what should be equal over the ranks and is not; "" where all is."""
    texts = []
    for each in _list(_map(run.get("verdicts")).get("desync"))[:_NAMED]:
        found = _map(each)
        ranks, labels = _list(found.get("ranks")), [*_list(found.get("labels")), *[None] * _NAMED]
        names = ", ".join(
            f"rank {clean(rank)}" if rank is not None else clean(label)
            for rank, label in zip(ranks[:_NAMED], labels, strict=False)
        )
        more = f" and {len(ranks) - _NAMED} more" if len(ranks) > _NAMED else ""
        step = count_text(found.get("step"))
        texts.append(f"{clean(found.get('metric'))} of {names}{more} from step {step}")
    return f"out of sync: {'; '.join(texts)}" if texts else ""


def gpu_text(document: Mapping[str, Any]) -> str:
    """Return what the GPUs of all nodes do together; "" where there are none."""
    nodes = [_map(node) for node in _list(document.get("nodes"))]
    gpus = [gpu for node in nodes for gpu in _list(node.get("gpus")) if isinstance(gpu, Mapping)]
    if not gpus:
        return ""
    all_of: Mapping[str, Any] = {"gpus": gpus}
    hosts = sum(1 for node in nodes if node.get("gpus"))
    texts = [f"{len(gpus)} GPU{'s' * (len(gpus) > 1)} on {hosts} node{'s' * (hosts > 1)}"]
    if (busy := gpu_value(all_of, "util_percent", lambda found: sum(found) / len(found))) is not None:
        texts.append(f"{busy:.0f}% busy")
    if (used := gpu_value(all_of, "memory_used_bytes", sum)) is not None:
        texts.append(f"{share_text(used, gpu_value(all_of, 'memory_total_bytes', sum))} GB")
    if (hottest := gpu_value(all_of, "temperature_celsius", max)) is not None:
        texts.append(f"hottest {hottest:.0f} °C")
    if (power := gpu_value(all_of, "power_watts", sum)) is not None:
        texts.append(f"{power / 1000:.1f} kW" if power >= 1000 else f"{power:.0f} W")
    return ", ".join(texts)


def _who(found: Mapping[str, Any]) -> str:
    rank, label, host = found.get("rank"), found.get("label"), found.get("host")
    if rank is not None:
        name = f"rank {clean(rank)}"
    else:
        name = clean(label if label is not None else str(found.get("writer", UNKNOWN))[:8])[:40]
    return f"{name} on {clean(host)[:40]}" if host else name


def _because(found: Mapping[str, Any]) -> str:
    why = found.get("why")
    return f": {clean(why)[:_MOST_CHARS]}" if why else ""


def _cut(line: Sequence[Part], width: int) -> Line:
    """Return the parts two blanks apart, as far as they fit; the one that does not is cut."""
    shown: Line = []
    left = width
    for text, style in _spaced(line):
        size = cell_len(text)
        if size > left:
            if left > 1:
                shown.append((fitted(text, left), style))
            break
        shown.append((text, style))
        left -= size
    return shown


def _spaced(line: Sequence[Part]) -> Iterator[Part]:
    for at, part in enumerate(line):
        if at:
            yield "  ", ""
        yield part


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()
