"""PyTorch and PyTorch Lightning as competitors: a plain loop, and `lightning.Trainer.fit` around the same model."""

import logging
import tempfile
import warnings

import torch

from benchmarks import shapes, torch_models


def model_of(task: str, sizes: dict, formulation: str) -> torch.nn.Module:
    """The model of one of `shapes.TASKS`; the formulation "" is the model's own default."""
    chosen = {"formulation": formulation} if formulation else {}
    if task == "captioning":
        return torch_models.Captioning(shapes.features(sizes), **sizes, **chosen)
    kinds = {"dcgan": torch_models.DCGAN, "translation": torch_models.Translation}
    return kinds.get(task, torch_models.Text)(**sizes, **chosen)


def train(gate, task: str, sizes: dict, steps: int, batches: int, formulation: str = "") -> None:
    """A plain loop."""
    loop(gate, model_of(task, sizes, formulation), shapes.arrays(task, sizes, batches), sizes["batch"], steps)


def train_lightning(gate, task: str, sizes: dict, steps: int, batches: int, formulation: str = "") -> None:
    """`lightning.Trainer.fit` without progress bar and logger."""
    model = model_of(task, sizes, formulation)
    fit(gate, model, shapes.arrays(task, sizes, batches), sizes["batch"], steps)


def batches_of(arrays: dict, batch: int):
    """Shuffled batches for ever, by indexing: faster than a `DataLoader` that collates examples."""
    tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
    while True:
        for rows in torch.randperm(len(next(iter(tensors.values())))).split(batch):
            if len(rows) == batch:
                yield {name: tensor[rows] for name, tensor in tensors.items()}


def loop(gate, model, arrays: dict, batch: int, steps: int) -> None:
    """A plain loop over shuffled batches of the arrays' rows; a stretch is `steps` updates."""
    stream, optimizers = batches_of(arrays, batch), model.optimizers()
    model.train()
    while True:
        gate()
        for _ in range(steps):
            model.step(next(stream), optimizers, torch.Tensor.backward)


def fit(gate, model, arrays: dict, batch: int, steps: int, bar: bool = False, logger: bool = False) -> None:
    """The same under `lightning.Trainer.fit`.

    Args:
        gate: Told at the first update, and after every `steps`.
        model: A model of `torch_models`.
        arrays: By name, the example axis first.
        batch: Examples of an update.
        steps: Updates of a stretch.
        bar: Whether there is a progress bar, with the loss in it.
        logger: Whether the loss is logged, to a CSV file.
    """
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # it asks for workers: the batches are there already

    class Gates(lightning.Callback):
        def on_train_start(self, trainer, module):
            gate()

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if (batch_idx + 1) % steps == 0:
                gate()

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return batches_of(arrays, batch)

    with tempfile.TemporaryDirectory() as folder:
        from lightning.pytorch.loggers import CSVLogger

        trainer = lightning.Trainer(
            max_epochs=-1, accelerator="auto", devices=1, callbacks=[Gates()], enable_progress_bar=bar,
            logger=CSVLogger(folder) if logger else False, enable_checkpointing=False, enable_model_summary=False,
        )  # fmt: skip
        kind = _manual(lightning) if len(model.optimizers()) > 1 else _automatic(lightning)
        loader = torch.utils.data.DataLoader(Stream(), batch_size=None)
        trainer.fit(kind(model, bar, logger), loader)


def _automatic(lightning):
    class Module(lightning.LightningModule):
        def __init__(self, model, bar, logger):
            super().__init__()
            self.model, self.shown = model, {"prog_bar": bar, "logger": logger}

        def training_step(self, batch, batch_idx):
            loss = self.model.loss(batch)
            if any(self.shown.values()):
                self.log("loss", loss, **self.shown)
            return loss

        def configure_optimizers(self):
            return self.model.optimizers()

    return Module


def _manual(lightning):
    class Module(lightning.LightningModule):
        def __init__(self, model, bar, logger):
            super().__init__()
            self.model, self.automatic_optimization = model, False

        def training_step(self, batch, batch_idx):
            self.model.step(batch, self.optimizers(), self.manual_backward)

        def configure_optimizers(self):
            return self.model.optimizers()

    return Module
