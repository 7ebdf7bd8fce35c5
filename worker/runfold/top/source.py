"""Where the values come from: the public client. In: a path. Out: documents, plain dicts. All calls block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runfold.api import Api, Run
    from runfold.api.console_logs import ConsoleLogLine

#: Runs listed at most.
MAX_RUNS = 500
_LIVE = {"state": {"$in": ["running", "preempting"]}}


class Source:
    """Asks one server. Each object is for one thread; `again()` makes another for a second one."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._run: Run | None = None
        self._path = ""

    @property
    def url(self) -> str:
        """The server's address."""
        return self._api.url

    def again(self) -> Source:
        """Return a source for another thread; connections are shared."""
        return Source(self._api)

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs that go on, newest first; CommError when no answer comes."""
        found = []
        for run in self._api.all_runs(_LIVE, "-created_at", 100):
            found.append(run.to_dict())
            if len(found) >= MAX_RUNS:
                break
        return found

    def live(self, path: str) -> dict[str, Any]:
        """Return a run as it stands now; RunNotFoundError, CommError."""
        return self._the_run(path).live()

    def lines(self, path: str, writer: str, last: int) -> Iterator[ConsoleLogLine]:
        """Yield what a process printed last, then what it prints, until the run has ended; CommError."""
        return iter(self._the_run(path).console_logs(last=last, writer=writer, follow=True))

    def stop(self, path: str, grace_s: float) -> dict[str, Any]:
        """Ask the processes of a run to end; RunEndedError, CommError."""
        return self._the_run(path).stop(grace_s)

    def _the_run(self, path: str) -> Run:
        if self._run is None or self._path != path:
            self._run, self._path = self._api.run(path), path
        return self._run
