"""A bar with the remaining time of the whole run, and one line per epoch: how far, how good, how fast."""

import math
import sys
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from lightkeras.callbacks.callback import Callback
from lightkeras.callbacks.epoch_line import (
    CLOCK,
    LEFT,
    OTHERS,
    SPEED,
    draw_bar,
    format_speed,
    metric_parts,
    order_metrics,
)
from lightkeras.callbacks.limit import Limit
from lightkeras.callbacks.log_values import numbers_of
from lightkeras.callbacks.model_checkpoint import ModelCheckpoint
from lightkeras.callbacks.pace import Pace
from lightkeras.callbacks.validation import Validation
from lightkeras.utils.formats import clock, format_value
from lightkeras.utils.terminal import Part, can_show, columns_of, fit_line, is_terminal, pad, print_line, to_shown

OUTDATED = 5.0  # seconds after which the metrics are read from the device, if no record of the logs has come
BAR = 20  # columns; half of it on a narrow terminal


class ProgressBar(Callback):
    """Shows a bar on a terminal, and prints a line for every epoch: plain lines where it is no terminal.

    A line has at most 100 columns, and no more than the terminal: what the task declares in `shown_metrics`, or else
    the losses first, and what fits. The best value so far of the metric that ranks checkpoints is marked. The
    remaining time is that of the whole run, validation and checkpoints included; early stopping may end it sooner.

    It costs nothing per update: the bar shows the last record of the logs.

    Args:
        refresh: Seconds between two pictures of the bar.
        plain: Seconds between two lines within an epoch, where it is no terminal.

    Attributes:
        best, best_epoch: The best value at the end of an epoch, and the epoch, from 1; None before the first.
        best_name: The name of the metric that ranks checkpoints, or None.
    """

    order = 40
    accepts_many_steps = True
    chief_only = True

    def __init__(self, refresh: float = 0.5, plain: float = 30.0):
        super().__init__()
        self.refresh, self.plain = refresh, plain
        self._live = None
        self.best: float | None = None
        self.best_epoch: int | None = None

    # ---- the run

    def on_train_begin(self, logs=None):
        self.best = self.best_epoch = None
        self.best_name, self._mode = self._find_ranking()
        self._pace, self._values = Pace(), {}
        self._began = self._looked = self._seen = time.monotonic()
        self._epoch, self._epoch_began = 0, self._began
        self.open_display()

    def _find_ranking(self) -> tuple[str | None, str]:
        """Returns the metric that ranks checkpoints, and "min" or "max"."""
        ranked = [c for c in self._callbacks(ModelCheckpoint) if c.monitor]
        name, mode = (ranked[0].monitor, ranked[0].mode) if ranked else self.model.monitor
        return (name if name in self.run.metric_names else None), mode

    def _callbacks(self, kind: type) -> list:
        return [callback for callback in self.run.callbacks.callbacks if isinstance(callback, kind)]

    # ---- the display: what another one than the terminal overrides

    def open_display(self) -> None:
        """Begins to show the run."""
        if not is_terminal(sys.stdout):
            return
        self.show_on(Console(file=sys.stdout, highlight=False))
        self._live = Live(
            console=self._console, get_renderable=self.draw, transient=True, vertical_overflow="crop",
            refresh_per_second=1 / max(self.refresh, 0.1),
        )  # fmt: skip
        self._live.start()

    def show_on(self, console: Console) -> None:
        """Takes the width and the characters of the lines from `console`."""
        self._console = console
        self._ascii = not can_show(console.file, draw_bar(0.5, 3, False))

    @property
    def is_live(self) -> bool:
        """Whether a bar shows the remaining time, so that lines need not."""
        return self._live is not None

    def refresh_display(self) -> None:
        """Shows how far the run is; called every `refresh` seconds if `is_live`, else every `plain`."""
        if not self._live:
            now = time.monotonic()
            self.show_line([*self._parts(now), *self._metric_parts(self._values, [])])

    def show_line(self, parts: list[Part]) -> None:
        """Shows a line that stays."""
        if self._live:
            self._console.print(self.fit(parts, columns_of(self._console.width)), crop=False, soft_wrap=True)
        else:
            print_line(str(self.fit(parts, columns_of())))

    def close_display(self) -> None:
        """Ends what `open_display` began; called twice after an error in the end."""
        if self._live:
            self._live.stop()
            self._live = None

    # ---- the run's hooks

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._epoch_began = epoch, time.monotonic()
        self._pace.begin_epoch(self._epoch_began, self.model.global_step)

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        self._pace.count(now, self.model.global_step)
        if now - self._looked >= (self.refresh if self.is_live else self.plain):
            self._looked = now
            if now - self._seen >= OUTDATED:
                self._see(logs, now)
            self.refresh_display()

    def on_log(self, record):
        self._see(record, time.monotonic())

    def _see(self, logs: dict | None, now: float) -> None:
        self._values, self._seen = {**self._values, **numbers_of(logs or {})}, now

    def on_epoch_end(self, epoch, logs=None):
        now, values = time.monotonic(), numbers_of(logs or {})
        took = Part(clock(now - self._epoch_began), CLOCK)
        marked = [self.best_name] if self._is_best(values) else []
        speed = Part(format_speed(self._values), SPEED, "dim")
        left = [] if self.is_live else [self._left(now, ended=True)]
        self.show_line([self._where(), took, *self._metric_parts(values, marked), speed, *left])

    def _is_best(self, values: dict[str, float]) -> bool:
        """Compares the monitored value with the best one before, and keeps the better."""
        value = values.get(self.best_name or "", math.nan)
        sign = 1 if self._mode == "min" else -1
        if math.isnan(value) or (self.best is not None and sign * value >= sign * self.best):
            return False
        self.best, self.best_epoch = float(value), self._epoch + 1
        return True

    def on_train_end(self, logs=None):
        self.close_display()

    def on_exception(self, error):
        shown = self.is_live
        self.close_display()
        if shown or self.model.global_step:
            ended = f"ended by {type(error).__name__} after update {self.model.global_step}"
            print_line(str(fit_line([self._where(), Part(ended)], columns_of())))

    # ---- lines

    def fit(self, parts: list[Part], columns: int) -> Text:
        """Joins the parts that fit, in characters that the stream has."""
        file = self._console.file if self._live else sys.stdout
        return fit_line([Part(to_shown(file, part.text), part.rank, part.style) for part in parts], columns)

    def draw(self) -> Text:
        """Draws the line of the bar, by the clock."""
        now, columns = time.monotonic(), columns_of(self._console.width)
        where, step, left = (part.text for part in self._parts(now))
        share, width = self._share(now), BAR if columns >= 60 else BAR // 2
        bar = "" if share is None else draw_bar(share, width, self._ascii)
        metrics = [part.text for part in self._metric_parts(self._values, [])[:2]]
        first, second = [*metrics, "", ""][:2]
        best = "" if self.best is None else f"best {format_value(self.best)} (epoch {self.best_epoch})"
        parts = [
            Part(where), Part(bar, 2, "cyan"), Part("" if share is None else f"{share:4.0%}", 4), Part(step, 7),
            Part(first, 3), Part(second, 5), Part(best, 6), Part(left, 1),
        ]  # fmt: skip
        return self.fit(parts, columns)

    def _parts(self, now: float) -> list[Part]:
        """Makes the parts about the place in the run: epoch, update of the epoch, remaining time."""
        steps = self.run.steps_per_epoch
        done = self.model.global_step - self._epoch * steps
        return [self._where(), Part(f"{done}/{steps}", OTHERS), self._left(now)]

    def _where(self) -> Part:
        epochs = self.run.epochs
        return Part(f"epoch {pad(str(self._epoch + 1), len(str(epochs or '')))}" + (f"/{epochs}" if epochs else ""))

    def _metric_parts(self, values: dict[str, float], marked: list) -> list[Part]:
        sets = [name for one in self._callbacks(Validation) for name in one.set_names]
        names = order_metrics(values, self.model.shown_metrics, sets, self.best_name)
        return metric_parts(values, names, *marked)

    def _share(self, now: float) -> float | None:
        """Returns the share of the run that is done; None where its end is unknown."""
        total, shares = self.model.total_steps, []
        shares += [self.model.global_step / total] if total else []
        shares += [(now - self._began) / one.max_seconds for one in self._callbacks(Limit) if one.max_seconds]
        return max(shares) if shares else None

    def _left(self, now: float, ended: bool = False) -> Part:
        """Makes the part about the remaining time; empty where it is unknown or over."""
        seconds = [one.max_seconds - (now - self._began) for one in self._callbacks(Limit) if one.max_seconds]
        total, step = self.model.total_steps, self.model.global_step
        if total:
            seconds += [self._pace.remaining(now, total - step, (self.run.epochs or 0) - self._epoch)]
        known = [one for one in seconds if one is not None]
        over = ended and total and step >= total
        return Part(f"{clock(max(min(known), 0))} left" if known and not over else "", LEFT)

    # ---- state

    def state_dict(self):
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state):
        self.best, self.best_epoch = state.get("best"), state.get("best_epoch")  # older checkpoints have none
