"""Stops a run whose loss is no longer a number."""

import numpy as np

from lightkeras.callbacks.callback import Callback
from lightkeras.utils.checks import LightkerasError

ADVICE = "The last checkpoint is from before. Try a lower learning rate or gradient_clip_val."


class NonFiniteLossError(LightkerasError, ArithmeticError):
    """A training loss or a weight was NaN or infinite."""


class NonFiniteGuard(Callback):
    """Raises `NonFiniteLossError` with the update, the batch's address and the losses, within one logging interval.

    The first bad update is found on the device, so nothing waits for it in between. A checkpoint is only written after
    this looked at losses and weights, so the last good one stays.

    In float16, an update whose gradients are not finite is skipped: neither its loss nor its gradients end the run,
    unless it was skipped at a loss scale of 1.
    """

    order = -30

    def on_log(self, record):
        self.look()

    def look(self) -> None:
        """Raises if any update of the running epoch had a loss that is not finite, or float16 cannot hold it."""
        exhausted = [name for name, scale in self.model.optimizers.loss_scales.items() if scale.exhausted]
        if exhausted:
            raise NonFiniteLossError(
                f"Expected finite gradients at a loss scale of 1. Received: those of {', '.join(exhausted)} not finite "
                f"in the last updates until {self.model.global_step}, all skipped. float16 ends at 65,504: compute the "
                'loss in float32, or try precision="bf16-mixed". The last checkpoint is from before.'
            )
        totals = self.model.train_sums
        first = totals.non_finite.numpy()
        if (first < 0).all():
            return
        step = int(first[first >= 0].min())
        names = [name for name, at in zip(totals.kinds, first, strict=False) if at == step]
        epoch, batch = divmod(step, self.model.steps_per_epoch)
        raise NonFiniteLossError(
            f"Expected finite losses. Received: {', '.join(names)} not finite at update {step + 1} (epoch {epoch}, "
            f"batch {batch}). Its weights are not saved. {ADVICE}{self._explain_replay(step + 1)}"
        )

    def _explain_replay(self, step: int) -> str:
        """Says how to look at the update; nothing where no folder holds the run."""
        run = self.run.folder
        return "" if run is None else f" To see the row at fault: lightkeras replay {run} --step {step}"

    def before_save(self):
        self.look()
        self._look_at_weights()

    def _look_at_weights(self) -> None:
        """Raises if a weight is not finite: a finite loss can have a gradient that is not."""
        bad = [v.path for v in self.model.trainable_variables if not np.isfinite(np.asarray(v)).all()]
        if bad:
            step = self.model.global_step
            raise NonFiniteLossError(
                f"Expected finite weights. Received: {', '.join(bad[:5])} not finite after update {step}, though its "
                f"loss was. They are not saved. {ADVICE}{self._explain_replay(step)}"
            )
