"""Media: values of log() whose bytes are files of the run. Captured when made, encoded in a thread."""
