"""Every name of the Run API that the five source pages have, as the project's checklist lists them.

A copy of the names in sections A (the `Run` of a training process) and B (the public `Run`): test_public_names.py fails
on any that is missing, has no docstring, is named in no document, or is exercised by no check with a real server.
"""

from __future__ import annotations

#: Section A: properties of `runfold.Run`.
RUN_PROPERTIES = """
config config_static summary history dir id name notes tags entity project path group job_type sweep_id start_time
starting_step step resumed disabled offline mode settings url project_url sweep_url
""".split()

#: Section A: methods of `runfold.Run`; `__enter__` stands for the context manager.
RUN_METHODS = """
get_url get_project_url get_sweep_url __enter__ log define_metric alert finish join mark_preempting save restore status
display to_html watch unwatch log_code log_artifact use_artifact upsert_artifact finish_artifact link_artifact log_model
use_model link_model plot_table
""".split()

#: Section A: what `log` takes, under `runfold`.
MEDIA = "Histogram Image Video Audio Table Html Object3D Molecule".split()

#: Section A: charts, under `runfold.plot`.
PLOTS = "line scatter bar histogram line_series pr_curve roc_curve confusion_matrix".split()

#: Section A: other names under `runfold`, and the early chart.
MODULE = "init plot_table plots.precision_recall Artifact Settings Error AlertLevel Api".split()

#: Section B: attributes of the public `Run`.
PUBLIC_ATTRIBUTES = """
tags url id name state config created_at system_metrics summary project entity user path notes read_only history_keys
""".split()

#: Section B: methods of the public `Run`.
PUBLIC_METHODS = """
create load update save delete history scan_history file files upload_file log_artifact logged_artifacts use_artifact
used_artifacts wait_until_finished display to_html snake_to_camel
""".split()

#: Section B: of `Api`.
API = "run runs artifact project projects group create_run create_project sweep".split()
