"""Alembic migrations of the store, run at start."""
