"""The wire: records, rows, frames, names in Redis. Pure; the only part that the coordinator may import.

No sockets, files, threads, clocks or logging here; standard library and msgpack only.
"""
