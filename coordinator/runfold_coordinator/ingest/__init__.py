"""From entries of a stream to the store: one transaction a batch, each record once."""
