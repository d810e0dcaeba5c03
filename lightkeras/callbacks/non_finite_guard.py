"""Stops a run whose loss is no longer a number."""

from lightkeras.callbacks.base import Callback


class NonFiniteLossError(ArithmeticError):
    """A training loss was NaN or infinite."""


class NonFiniteGuard(Callback):
    """Raises `NonFiniteLossError` with the update, the batch's address and the losses, within one logging interval.

    The first bad update is found on the device, so nothing waits for it in between; a checkpoint is only written after
    this looked, so the last good one stays.
    """

    def on_log(self, record):
        self.look()

    def look(self) -> None:
        """Raises if any update of the running epoch had a loss that is not finite."""
        totals = self.model.train_totals
        first = totals.non_finite.numpy()
        if (first < 0).all():
            return
        step = int(first[first >= 0].min())
        names = [name for name, at in zip(totals.kinds, first, strict=True) if at == step]
        epoch, batch = divmod(step, self.model.steps_per_epoch)
        raise NonFiniteLossError(
            f"Expected finite losses. Received: {', '.join(names)} not finite at update {step + 1} (epoch {epoch}, "
            f"batch {batch}). Its weights are not saved; the last checkpoint is from before. Try a lower learning rate "
            "or gradient_clip_val."
        )
