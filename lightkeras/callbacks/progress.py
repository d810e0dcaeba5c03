"""One line per epoch: how far, how fast, how good."""

import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lightkeras.callbacks.callback import Callback
from lightkeras.callbacks.log_values import is_speed, numbers_of


def describe(logs: dict | None) -> str:
    """`loss 1.234  val_loss 1.345` of a dict of metrics."""
    values = numbers_of(logs or {})
    shown = {name: f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" for name, value in values.items()}
    return "  ".join(f"{name} {text}" for name, text in shown.items() if name not in ("epoch", "step"))


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class ProgressBar(Callback):
    """Shows the running epoch on a terminal, and a line for every epoch done; plain lines where it is no terminal.

    It looks at the metrics, which waits for the device, at most every `refresh` seconds.

    Args:
        refresh: Seconds between two looks on a terminal.
        plain: Seconds between two lines elsewhere.
    """

    order = 40
    accepts_many_steps = True
    chief_only = True

    def __init__(self, refresh: float = 0.5, plain: float = 30.0):
        super().__init__()
        self.refresh, self.plain = refresh, plain
        self._bar = None

    def on_train_begin(self, logs=None):
        self._every = self.refresh if sys.stdout.isatty() else self.plain
        self._begun, self._from_step, self._rates = None, self.model.global_step, {}
        if sys.stdout.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
            self._bar = Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[text]}"), transient=True)
            self._line = self._bar.add_task("", text="")
            self._bar.start()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._epoch_began = self._looked = time.monotonic()
        if self._bar:
            done = self.model.global_step % self.run.steps_per_epoch
            self._bar.reset(
                self._line, total=self.run.steps_per_epoch, completed=done, description=self._where(), text=""
            )

    def _where(self) -> str:
        epochs = self.run.epochs
        return f"epoch {self._epoch + 1}" + (f"/{epochs}" if epochs else "")

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        if self._begun is None:  # the first call traces and compiles: it says nothing of the speed
            self._begun, self._from_step = now, self.model.global_step
        if now - self._looked < self._every:
            return
        self._looked = now
        if self._bar:
            text = f"{describe(logs)}  {describe(self._rates)}"
            self._bar.update(self._line, completed=batch + 1, text=text)
        else:
            parts = (self._where(), f"{batch + 1}/{self.run.steps_per_epoch}", describe(logs), self._eta(now))
            print("  ".join(part for part in parts if part), flush=True)

    def _eta(self, now: float) -> str:
        made, left = self.model.global_step - self._from_step, (self.model.total_steps or 0) - self.model.global_step
        return f"ETA {clock(left * (now - (self._begun or now)) / made)}" if made and left > 0 else ""

    def on_log(self, record):
        self._rates = {name: value for name, value in record.items() if is_speed(name)}

    def on_epoch_end(self, epoch, logs=None):
        now = time.monotonic()
        took = clock(now - self._epoch_began)
        parts = (self._where(), took, describe(logs), describe(self._rates), self._eta(now))
        text = "  ".join(part for part in parts if part)
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, flush=True)

    def on_train_end(self, logs=None):
        self._stop()

    def on_exception(self, error):
        self._stop()

    def _stop(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None
