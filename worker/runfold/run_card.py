"""A run as HTML for notebooks: its page in a frame, which goes on by itself, or a card without one. Pure.

Every text of a user is escaped; the card needs nothing from elsewhere and holds no script.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

#: Rows of config and of summary in a card, and characters of one value.
MAX_ROWS = 100
MAX_VALUE_CHARS = 300
_DEPTH = 8
_BOX = (
    "border:1px solid #8888;border-radius:6px;padding:10px 14px;max-width:60em;font:13px system-ui,sans-serif"
)
_CELL = "text-align:left;padding:1px 14px 1px 0;vertical-align:top;overflow-wrap:anywhere"


def frame(url: str, *, height: int, hidden: bool) -> str:
    """Return a frame with a run's page.

    Args:
        url: Of the page.
        height: Pixels.
        hidden: Behind a line to click on.
    """
    address = html.escape(f"{quote(url, safe=':/%@[]')}?jupyter=true")
    style = f"border:none;width:100%;height:{int(height)}px;"
    link = (
        f'<a href="{html.escape(quote(url, safe=":/%@[]"))}" target="_blank" rel="noopener">open the run</a>'
    )
    shown = f'<iframe src="{address}" title="run" style="{style}"></iframe><div>{link}</div>'
    if not hidden:
        return shown
    return f"<details><summary>Display runfold run</summary>{shown}</details>"


def card(
    *,
    name: str,
    path: str,
    state: str,
    config: Mapping[str, Any],
    summary: Mapping[str, Any],
    hidden: bool = False,
) -> str:
    """Return what is known of a run.

    Args:
        path: entity/project/id.
        state: In a word or two.
        config, summary: Values by key; keys that begin with "_" are left out.
        hidden: Behind a line to click on.
    """
    head = (
        f"<div><b>{html.escape(name)}</b> <code>{html.escape(path)}</code> "
        f"<span>{html.escape(state)}</span></div>"
    )
    tables = _table("config", config) + _table("summary", summary)
    box = f'<div style="{_BOX}">{head}{tables}</div>'
    return f"<details><summary>Display runfold run</summary>{box}</details>" if hidden else box


def _table(title: str, values: Mapping[str, Any]) -> str:
    pairs = list(
        _leaves({key: value for key, value in values.items() if not str(key).startswith("_")}, "", 0)
    )
    if not pairs:
        return ""
    rows = "".join(
        f'<tr><th scope="row" style="{_CELL}">{html.escape(key)}</th>'
        f'<td style="{_CELL}">{html.escape(value)}</td></tr>'
        for key, value in pairs[:MAX_ROWS]
    )
    more = f"<div>and {len(pairs) - MAX_ROWS} more</div>" if len(pairs) > MAX_ROWS else ""
    return f'<div style="margin-top:8px"><i>{title}</i><table>{rows}</table>{more}</div>'


def _leaves(tree: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and "_type" not in value and depth < _DEPTH:
            yield from _leaves(value, f"{name}.", depth + 1)
        else:
            yield name, _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "_type" in value:
        text = str(value.get("path") or value["_type"])
    else:
        text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}…"
