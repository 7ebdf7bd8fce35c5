"""The crash-proof files between a training process and the node agent."""
