"""Run.watch(): what the gradients and parameters of torch modules look like while they are trained."""
