"""`runfold run -- CMD`: the parent of a training command or its launcher, and its word for the agent."""
