"""PyTorch as a competitor: a plain loop."""

import torch

from benchmarks.peers import shapes, torch_models


def make_model(task: str, sizes: dict, formulation: str) -> torch.nn.Module:
    """The model of one of `shapes.TASKS`; the formulation "" is the model's own default."""
    chosen = {"formulation": formulation} if formulation else {}
    if task == "captioning":
        return torch_models.Captioning(shapes.features(sizes), **sizes, **chosen)
    kinds = {"dcgan": torch_models.DCGAN, "translation": torch_models.Translation}
    return kinds.get(task, torch_models.Text)(**sizes, **chosen)


def train(gate, task: str, sizes: dict, steps: int, batches: int, formulation: str = "") -> None:
    """A plain loop."""
    loop(gate, make_model(task, sizes, formulation), shapes.arrays(task, sizes, batches), sizes["batch"], steps)


def shuffle_batches(arrays: dict, batch: int):
    """Shuffled batches for ever, by indexing: faster than a `DataLoader` that collates examples."""
    tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
    while True:
        for rows in torch.randperm(len(next(iter(tensors.values())))).split(batch):
            if len(rows) == batch:
                yield {name: tensor[rows] for name, tensor in tensors.items()}


def loop(gate, model, arrays: dict, batch: int, steps: int) -> None:
    """A plain loop over shuffled batches of the arrays' rows; a stretch is `steps` updates."""
    stream, optimizers = shuffle_batches(arrays, batch), model.optimizers()
    model.train()
    while True:
        gate()
        for _ in range(steps):
            model.step(next(stream), optimizers, torch.Tensor.backward)
