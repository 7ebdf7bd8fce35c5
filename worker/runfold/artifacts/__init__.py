"""Artifacts: files that belong together, with versions. What people use of it is `runfold.Artifact`."""
