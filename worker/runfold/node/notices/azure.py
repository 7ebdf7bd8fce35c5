"""Microsoft Azure: scheduled events that take this machine away, from the instance metadata service.

Protocol: "Azure Metadata Service: Scheduled Events for Linux VMs". Every machine of a scale set is told the
events of all: the resources say whose they are.
"""

from __future__ import annotations

import json
from typing import Any

from .notice import Notice, fetch, unix_s_of

_HEADERS = {"Metadata": "true"}
_EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
_NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
#: Others (Freeze, Reboot, Redeploy) bring the machine back.
_TAKING = frozenset({"Preempt", "Terminate"})


class Azure:
    """An eviction of a spot machine is told 30 s before, a termination 5 min and more."""

    system = "azure"
    every_s = 5.0

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._name: str | None = None

    def look(self) -> Notice | None:
        """Return the first event that takes this machine away."""
        if self._name is None:
            said = fetch(self._base_url + _NAME, _HEADERS)
            if said.status != 200:
                raise ValueError(f"the metadata service answers {said.status}")
            self._name = said.body.decode("utf-8", "replace").strip()
        said = fetch(self._base_url + _EVENTS, _HEADERS)
        if said.status != 200:
            raise ValueError(f"the metadata service answers {said.status}")
        return event_for(json.loads(said.body), self._name)


def event_for(document: Any, name: str) -> Notice | None:
    """Return the notice in a document of scheduled events, of the machine of this name.

    Raises:
        ValueError: It is no such document.
    """
    events = document.get("Events") if isinstance(document, dict) else None
    if events is None:
        raise ValueError("not a document of scheduled events")
    for event in events if isinstance(events, list) else ():
        if not isinstance(event, dict) or event.get("EventType") not in _TAKING:
            continue
        # Of a scale set the resource is "name_0", and so is the machine's name.
        if name in (event.get("Resources") or []):
            kind, at = event["EventType"], event.get("NotBefore") or ""
            text = f"Azure scheduled event: {kind}" + (f", not before {at}" if at else "")
            return Notice("azure", text, unix_s_of(at), str(event.get("EventId") or kind))
    return None
