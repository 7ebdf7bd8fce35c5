"""Steps of a small transformer, by turns watched and not. `python -m bench.watch_loop LIBRARY LOG_FREQ ROUNDS`.

Prints a JSON object: for each round, seconds of processor time a step, plain and watched. Runs wherever torch and
the library are.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

import torch

#: Steps of one round of either kind.
STEPS = 100


class Transformer(torch.nn.Module):
    """Two layers, 128 wide, 4 heads: 0.5 M parameters in 30 tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(1000, 128)
        layer = torch.nn.TransformerEncoderLayer(128, 4, 256, dropout=0.0, batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = torch.nn.Linear(128, 1000)

    def forward(self, tokens: Any) -> Any:
        return self.head(self.layers(self.embedding(tokens)))


def main(library: str, log_freq: int, rounds: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = importlib.import_module(library)
    run = module.init(project="bench", mode="offline")
    model = Transformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(0, 1000, (8, 64))

    def steps() -> float:
        began = time.process_time()
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
            loss.backward()
            optimizer.step()
            run.log({"loss": loss.item()})
        return (time.process_time() - began) / STEPS

    steps()
    found = []
    for _ in range(rounds):
        plain = steps()
        run.watch(model, log="all", log_freq=log_freq)
        watched = steps()
        run.unwatch(model)
        found.append([plain, watched])
    print(json.dumps(found), flush=True)
    sys.stdout.flush()
    os._exit(0)  # what it costs to end is not measured here


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
