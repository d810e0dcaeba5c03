"""PyTorch Lightning as a competitor: `lightning.Trainer.fit` around the models of `torch_models`."""

import logging
import tempfile
import warnings

import torch

from benchmarks.peers import shapes
from benchmarks.peers.torch import make_model, shuffle_batches


def train(gate, task: str, sizes: dict, steps: int, batches: int, formulation: str = "") -> None:
    """`lightning.Trainer.fit` without progress bar and logger."""
    model = make_model(task, sizes, formulation)
    fit(gate, model, shapes.arrays(task, sizes, batches), sizes["batch"], steps)


def fit(gate, model, arrays: dict, batch: int, steps: int, bar: bool = False, logger: bool = False) -> None:
    """Trains a model on shuffled batches of the arrays' rows; a stretch is `steps` updates.

    Args:
        gate: Called at the first update, and after every `steps`.
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
            return shuffle_batches(arrays, batch)

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
