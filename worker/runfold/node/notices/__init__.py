"""Notices that this machine will be taken away, and what a scheduler says of a job that ended.

`detect.py` finds out whom to ask, one file each asks (aws, gcp, azure, kubernetes), `watch.py` tells the
processes; `slurm.py` asks Slurm after deaths.
"""
