"""Artifacts: versions of files with names, aliases and lineage. Their bytes are blobs."""
