"""Files on their way to the coordinator: what a process leaves to the node agent, and what carries it."""
