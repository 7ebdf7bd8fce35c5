"""The wire: records, rows, frames, names in Redis. Pure; the only part that the coordinator may import."""
