"""What a node does with its processors, memory, disks, network and GPUs, sampled once for all its writers.

Small probes read (`host.py`, `cgroup.py`, `process_tree.py`, `nvml*.py`), pure parts decide (`pace.py`,
`plausible.py`, `visible_devices.py`), `sampler.py` puts them together.
docs/system_metrics.md lists the names.
"""
