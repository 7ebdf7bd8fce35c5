"""The coordinator: reads the streams, stores every record once, aggregates, answers."""
