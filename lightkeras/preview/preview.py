"""Preview: everything worth knowing of a run before it is started."""

import contextlib
import copy
import dataclasses
import io
import math
from collections.abc import Iterator
from typing import Any

import keras
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from lightkeras.callbacks.model_summary import write_flops
from lightkeras.data import DataModule, stages
from lightkeras.data.batches import named_entries
from lightkeras.data.brought import as_data_module
from lightkeras.data.named_sets import UNNAMED
from lightkeras.keras_models.accept import as_task
from lightkeras.preview.examples import draw_example, read_examples
from lightkeras.preview.model import Weights, list_weights
from lightkeras.preview.timing import Stopwatch, Timing
from lightkeras.profiling.update import count_batch
from lightkeras.task import TaskModule
from lightkeras.trainer import Trainer
from lightkeras.utils.formats import clock
from lightkeras.utils.seeds import seeded
from lightkeras.utils.terminal import MAX_COLUMNS, columns_of

QUIET = {
    "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
}  # fmt: skip
INDENT = 2  # columns
VALIDATED = 4  # batches of the timed validation


@dataclasses.dataclass(frozen=True)
class Split:
    """A data set: its name, its examples (None where they are not counted), rows of a batch, batches."""

    name: str
    examples: int | None
    batch_size: int
    batches: int


@dataclasses.dataclass(frozen=True)
class Preview:
    """What a run will be. `print` writes it in plain lines; the command `lightkeras show` prints it in colours.

    Attributes:
        title: Task and data.
        data: The arguments of the data.
        splits: The data sets.
        spec: Shape and dtype of each entry of a batch, by name.
        examples: What the data shows of three examples.
        weights: The weights by layer.
        costs: Sentences about the floating-point operations and the memory of an update.
        steps_per_epoch, total_steps: Updates; the total is None where only time or a callback ends the run.
        timing: Seconds of an update and of a validation.
        validations: Validations of the run.
        seconds: Estimate for the whole run, without samples and checkpoints; None where its end is not known.
    """

    title: str
    data: dict[str, Any]
    splits: list[Split]
    spec: dict[str, str]
    examples: list[Any]
    weights: list[Weights]
    costs: list[str]
    steps_per_epoch: int
    total_steps: int | None
    timing: Timing
    validations: int
    seconds: float | None

    @property
    def parameters(self) -> int:
        """The elements of all weights."""
        return sum(one.parameters for one in self.weights)

    def __str__(self) -> str:
        """The preview in plain lines of at most 100 columns."""
        return _draw(self, Console(file=io.StringIO(), width=MAX_COLUMNS, color_system=None))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = options.max_width - INDENT
        for title, lines in (
            (self.title, [f"{name}: {value}" for name, value in self.data.items()]),
            ("Splits", map(_describe_split, self.splits)),
            ("A batch", [f"{name}: {spec}" for name, spec in self.spec.items()]),
            *((f"Example {n}", draw_example(one, console, width)) for n, one in enumerate(self.examples, 1)),
            ("Model", self._describe_model()),
            ("Time", self._describe_time()),
        ):
            yield Text(title, "bold")
            yield from (Padding(line, (0, 0, 0, INDENT)) for line in lines)
            yield Text()

    def _describe_model(self) -> list[RenderableType]:
        table = Table.grid("layer", Column("parameters", justify="right", no_wrap=True), "shapes", padding=(0, 2, 0, 0))
        for one in self.weights:
            table.add_row(Text(one.layer), f"{one.parameters:,}", Text(one.shapes))
        return [table, f"{self.parameters:,} parameters", *self.costs]

    def _describe_time(self) -> list[str]:
        total = f"{self.total_steps:,} updates, " if self.total_steps else "Updates: "
        lines = [f"{total}{self.steps_per_epoch:,} an epoch"]
        timing, validation = self.timing, self.timing.validation
        if timing.update is None:
            return [*lines, "The run is too short to be timed."]
        lines += [f"{_write_seconds(timing.update)} an update, after {_write_seconds(timing.first)} for the first call"]
        if validation is not None:
            lines += [f"{_write_seconds(validation)} a validation, {self.validations:,} times"]
        if self.seconds is not None:
            lines += [f"About {clock(self.seconds)} in all, without samples and checkpoints"]
        return lines


def print_preview(preview: Preview) -> None:
    """Prints a preview, in lines that fit the terminal."""
    console = Console(highlight=False, emoji=False)
    console.width = columns_of(console.width if console.is_terminal else None)
    print(_draw(preview, console))


def _draw(preview: Preview, console: Console) -> str:
    with console.capture() as captured:
        console.print(preview, highlight=False, emoji=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def show(
    task: TaskModule | keras.Model, data: Any, *, validation_data: Any = None, batch_size: int | None = None,
    **trainer: Any,
) -> Preview:  # fmt: skip
    """Looks at data and model, and times a few updates of a copy of the task.

    Args:
        task: The task, or a compiled Keras model. Neither changes.
        data, validation_data, batch_size: As for `Trainer.fit`.
        trainer: The arguments of the Trainer that the run will have. Its callbacks are left out.

    Returns:
        A preview, to be printed.
    """
    data = as_data_module(data, validation_data, batch_size)
    subject: Any = type(task)(**copy.deepcopy(task.init_args)) if isinstance(task, TaskModule) else as_task(task)
    limit = trainer.get("limit_val_batches", 1.0)
    short = min(limit, VALIDATED) if isinstance(limit, int) else VALIDATED
    with contextlib.ExitStack() as stack:

        def look(built: Any) -> dict[str, Any]:
            stack.enter_context(built.trying_out())
            return {
                "spec": {name: _describe_spec(one) for name, one in named_entries(built.spec).items()},
                "weights": list_weights(built),
                "steps_per_epoch": built.steps_per_epoch,
                "total_steps": built.total_steps,
            }  # fmt: skip

        watch = Stopwatch(look)
        jit = trainer.get("jit_compile", "auto")
        jit = bool(subject.prefer_jit_compile) if jit == "auto" else jit
        short_runs = {"limit_val_batches": short, "num_sanity_val_steps": VALIDATED}  # the first one traces
        timed = Trainer(**{**trainer, **QUIET, **short_runs, "callbacks": [watch], "jit_compile": jit})
        timed.fit(subject, data)
    timing, validations = _scale(data, timed, watch, limit, short, trainer)
    total, seconds = watch.seen["total_steps"], None
    if total and timing.update is not None:
        seconds = timing.first + total * timing.update + validations * (timing.validation or 0.0)
    train: Any = data.trained_on
    examples = [data.show_example(one) for one in read_examples(train, timed.seed)]
    costs = watch.costs
    if watch.cost and math.isfinite(watch.cost.flops.total) and not watch.cost.flops.sizes_known:
        costs = [*costs[1:], _count_first_batch(subject, train, timed.seed)]
    title = f"{subject.title} on {type(data).__name__}"
    return Preview(
        title, dict(data.init_args), _list_splits(data, timed, limit), examples=examples, timing=timing,
        costs=costs, validations=validations,
        seconds=seconds, **watch.seen,
    )  # fmt: skip


def _count_first_batch(task: Any, dataset: Any, seed: int) -> str:
    """Says what an update on the first batch costs, where batches differ in shape."""
    (batch,) = dataset.stream(seed, steps=1, epochs=1).take(1)
    flops = write_flops(count_batch(task.train_loop, batch))
    shapes = ", ".join(f"{name} {tuple(one.shape)}" for name, one in named_entries(batch).items())
    return f"An update on the first batch: {flops} ({shapes})"


def _scale(
    data: DataModule, timed: Trainer, watch: Stopwatch, limit: Any, short: int, trainer: dict[str, Any]
) -> tuple[Timing, int]:
    """Extends the time of the short validation to all of its batches, and counts the validations of the run."""
    timing = watch.timing
    if timing.validation is None:
        return timing, 0
    with seeded(timed.seed):
        whole, measured = (
            sum(one.steps for one in stages.validation(data, amount, timed.overfit_batches).values())
            for amount in (limit, short)
        )
    steps, total = watch.seen["steps_per_epoch"], watch.seen["total_steps"] or 0
    every = trainer.get("val_check_interval", 1.0)
    within = stages.batch_count(every, steps) if isinstance(every, int | float) else steps
    of_epoch = math.ceil(steps / within)
    count = math.ceil(total / steps) // trainer.get("check_val_every_n_epoch", 1) * of_epoch
    return timing._replace(validation=timing.validation * whole / measured), count


def _list_splits(data: DataModule, timed: Trainer, limit: Any) -> list[Split]:
    train: Any = data.trained_on
    found: dict[str, Any] = {"train": stages.StageData(train, len(train))}
    with seeded(timed.seed):
        found |= _named("validation", stages.validation(data, limit or 1.0, 0))
        data.setup("test")
        if data.test_dataset() is not None:
            found |= _named("test", stages.evaluation(data, "test_dataset"))
    return [
        Split(name, getattr(dataset, "size", None), dataset.batch_size, steps)
        for name, (dataset, steps) in found.items()
    ]


def _named(split: str, sets: dict[str, stages.StageData]) -> dict[str, stages.StageData]:
    return {split if name == UNNAMED else f"{split} {name}": one for name, one in sets.items()}


def _describe_spec(spec: Any) -> str:
    return f"{spec.dtype.name} {tuple(spec.shape)}"


def _describe_split(split: Split) -> str:
    examples = "" if split.examples is None else f"{split.examples:,} examples, "
    return f"{split.name}: {examples}{split.batches:,} batches of {split.batch_size:,}"


def _write_seconds(seconds: float) -> str:
    if seconds >= 60:
        return clock(seconds)
    scale, unit = (1, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "us")
    return f"{seconds * scale:.3g} {unit}"
