"""The catalogue and the column chunks, in SQLite or PostgreSQL, cold history in Parquet."""
