"""RunFacts: what a run can be asked about itself. Properties only; part of Run."""

from __future__ import annotations

import copy
from urllib.parse import quote

from runfold import terminal
from runfold.acknowledgement import registered_url
from runfold.run_part import RunPart
from runfold.settings import Settings


class RunFacts(RunPart):
    """Read-only properties of a run, under W&B's names. Unset texts are "", but name and notes are None."""

    @property
    def id(self) -> str:
        """The run's id, unique in its project."""
        return self._membership.identity.run_id

    @property
    def entity(self) -> str:
        """The owner; "local" unless said otherwise."""
        return self._membership.identity.entity

    @property
    def project(self) -> str:
        """The project; "uncategorized" or the git repository's name unless said otherwise."""
        return self._membership.identity.project

    @property
    def path(self) -> str:
        """entity/project/run_id."""
        return "/".join(part for part in (self.entity, self.project, self.id) if part)

    @property
    def group(self) -> str:
        """The group, or ""."""
        return self._membership.identity.group or ""

    @property
    def job_type(self) -> str:
        """The job type, or ""."""
        return self._membership.identity.job_type or ""

    @property
    def fold(self) -> int | str | None:
        """The fold of a cross-validation, as init() got it."""
        return self._membership.identity.fold

    @property
    def label(self) -> str | None:
        """This writer's display name among the run's writers."""
        return self._membership.identity.label

    @property
    def rank(self) -> int | None:
        """This process's rank as its launcher says."""
        return self._membership.identity.rank

    @property
    def world_size(self) -> int | None:
        """How many ranks the job has, as its launcher says."""
        return self._membership.identity.world_size

    @property
    def start_time(self) -> float:
        """When this process joined the run, unix seconds; a resumed run had gone on for a while by then, and
        this is so much earlier.
        """
        return self._membership.identity.zero_unix_ns / 1e9

    @property
    def starting_step(self) -> int:
        """The first step: 0, or the one after the step that the run goes on from."""
        return self._membership.identity.start_step

    @property
    def resumed(self) -> bool:
        """Whether this goes on with a run that exists: by resume= or resume_from=."""
        return self._membership.is_resumed

    @property
    def offline(self) -> bool:
        """Whether the run is only spooled, until `runfold sync`."""
        return self._membership.is_offline

    @property
    def disabled(self) -> bool:
        """Whether the run does nothing at all."""
        return False

    @property
    def settings(self) -> Settings:
        """A copy of the settings; changing it changes nothing."""
        return copy.deepcopy(self._settings)

    @property
    def url(self) -> str | None:
        """The run's page, or None offline and where no server is known."""
        project_url = self.project_url
        return None if project_url is None else f"{project_url}/runs/{self.id}"

    @property
    def project_url(self) -> str | None:
        """The project's page, or None."""
        if self.offline:
            terminal.warn_once("URL not available in offline run")
            return None
        base = self._settings.base_url or registered_url(self._membership.node)
        return None if base is None else f"{base.rstrip('/')}/{self.entity}/{self.project}"

    @property
    def sweep_id(self) -> str | None:
        """The sweep that the run was started for: RUNFOLD_SWEEP_ID or WANDB_SWEEP_ID, or None."""
        return self._membership.identity.sweep_id

    @property
    def sweep_url(self) -> str | None:
        """The sweep's page; None without a sweep, offline, and where no server is known."""
        sweep_id = self.sweep_id
        if sweep_id is None:
            return None
        if self._settings.sweep_url is not None and not self.offline:
            return self._settings.sweep_url
        project_url = self.project_url
        return None if project_url is None else f"{project_url}/sweeps/{quote(sweep_id, safe='')}"
