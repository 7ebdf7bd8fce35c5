"""Google Compute Engine: notices of preemption and of host maintenance, from the metadata server.

Protocol: "Detect if a preemption process is running" and "Query metadata server for maintenance event
notices". A live migration takes nothing away; with GPUs attached maintenance terminates.
"""

from __future__ import annotations

from .notice import Notice, fetch

_HEADERS = {"Metadata-Flavor": "Google"}
#: From "preempted" to the end, seconds.
_PREEMPTION_S = 30.0


class Gcp:
    """`instance/preempted` says TRUE once the machine is preempted."""

    system = "gcp"
    every_s = 5.0

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/") + "/computeMetadata/v1/instance"

    def look(self) -> Notice | None:
        """Return the preemption, else the maintenance that terminates."""
        if self._value("preempted") == "TRUE":
            return Notice("gcp", f"Compute Engine preempts this machine within {_PREEMPTION_S:.0f} s")
        event = self._value("maintenance-event")
        if event.startswith("TERMINATE"):
            return Notice("gcp", f"Compute Engine host maintenance: {event}", None, event)
        return None

    def _value(self, name: str) -> str:
        said = fetch(f"{self._base_url}/{name}", _HEADERS)
        if said.status == 404:  # not known of this kind of machine
            return ""
        flavor = {key.lower(): value for key, value in said.headers.items()}.get("metadata-flavor")
        if said.status != 200 or flavor != "Google":
            raise ValueError(f"no metadata server of Google: status {said.status}")
        return said.body.decode("utf-8", "replace").strip().upper()
