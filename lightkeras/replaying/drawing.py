"""An update that was executed again, as lines for people."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from lightkeras.preview.examples import draw_example
from lightkeras.replaying.grid import draw_grid, pictures_of, without_pictures
from lightkeras.replaying.inspection import Inspection
from lightkeras.replaying.looks import Look
from lightkeras.training.optimizers import LOSS
from lightkeras.utils.terminal import MAX_COLUMNS, columns_of

INDENT = 2  # columns
SHOWN_ROWS = 12  # that are not far from the others; all that are, are shown
SHOWN_PICTURES = 10


def print_inspection(inspection: Inspection) -> None:
    """Prints an inspection, in lines that fit the terminal."""
    console = Console(highlight=False, emoji=False)
    console.width = columns_of(console.width if console.is_terminal else None)
    print(draw(inspection, console))


def write_inspection(inspection: Inspection) -> str:
    """Writes an inspection in plain lines."""
    return draw(inspection, Console(file=io.StringIO(), width=MAX_COLUMNS, color_system=None))


def draw(inspection: Inspection, console: Console) -> str:
    """Draws an inspection for a console."""
    with console.capture() as captured:
        for title, parts in _sections(inspection, console, console.width - INDENT):
            console.print(Text(title, "bold"), highlight=False)
            for part in parts:
                console.print(Padding(part, (0, 0, 0, INDENT)), highlight=False, emoji=False, markup=False)
            console.print()
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _sections(
    found: Inspection, console: Console, width: int
) -> Iterator[tuple[str, list[RenderableType]]]:  # fmt: skip
    moment = found.moment
    since = f"update {moment.began}" if moment.began else "the beginning"
    yield (
        f"Update {moment.step}: batch {moment.batch_number} of epoch {moment.epoch}, executed again from {since}",
        [str(found.compared)],
    )
    yield "Updates", [_draw_updates(found)]
    if found.without:
        rows, others = found.without
        named = f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows))}"
        yield f"Without {named} of update {moment.step}", [_draw_without(found, others)]
    for number, look in enumerate(found.looks, 1):
        of = ", ".join(f"{name} {value:.6g}" for name, value in look.losses.items())
        title = "Rows" if len(found.looks) == 1 else f"Rows, in part {number} of the update ({of})"
        yield title, list(_draw_rows(found, look, console, width))
    if not found.looks:
        yield "Rows", ["Their losses are not known: the model has a `train_step` of its own, or several replicas."]
        yield "Examples", _draw_examples(found, range(min(3, len(found.examples))), console, width)
    for number, look in enumerate(found.looks, 1):
        yield "Layers" if len(found.looks) == 1 else f"Layers, in part {number}", [_draw_layers(look)]
    yield "Variables", [_draw_variables(found)]
    yield "Optimizers", [f"{name} {value:.6g}" for name, value in found.rates.items()]


def _draw_updates(found: Inspection) -> Table:
    names = list(found.updates[0]) if found.updates else []
    table = _table("update", *names)
    for number, values in enumerate(found.updates, found.moment.step):
        table.add_row(f"{number:,}", *(_number(values[name]) for name in names))
    return table


def _draw_without(found: Inspection, others: list[dict[str, Any]]) -> Table:
    losses = [name for name in found.updates[0] if name == LOSS or name.endswith(f"_{LOSS}")]
    table = _table("update", *(f"{name}{how}" for name in losses for how in ("", " without")))
    for number, (values, other) in enumerate(zip(found.updates, others, strict=True), found.moment.step):
        table.add_row(f"{number:,}", *(_number(one[name]) for name in losses for one in (values, other)))
    return table


def order_of_rows(look: Look) -> tuple[list[int], dict[int, list[str]]]:
    """Returns the rows that are no padding, those far from the others first, then by their gradients; and why."""
    rows, far = look.rows, look.rows.far()
    largest = np.max([np.nan_to_num(values, nan=np.inf) for values in rows.norms.values()], axis=0)
    known = np.flatnonzero(next(iter(rows.weights.values())) > -np.inf)
    return sorted(known.tolist(), key=lambda row: (row not in far, -largest[row])), far


def _draw_rows(found: Inspection, look: Look, console: Console, width: int) -> Iterator[RenderableType]:
    order, far = order_of_rows(look)
    shown = order[: max(SHOWN_ROWS, len(far))]
    several = len(look.rows.losses) > 1
    columns = [one for name in look.rows.losses for one in (name.replace("_", " ") if several else "loss", "gradient")]
    text = Column(no_wrap=True, overflow="crop", ratio=1)
    table = Table.grid(*_right("", "row", "example", *columns), text, padding=(0, 2, 0, 0), expand=True)
    table.add_row("", "row", "example", *columns, "")
    for row in shown:
        values = [
            _number(one[row]) for name in look.rows.losses for one in (look.rows.losses[name], look.rows.norms[name])
        ]
        examples = found.moment.examples
        number = "" if examples is None else f"{examples[row]:,}"
        told = " | ".join(line.plain for line in draw_example(without_pictures(found.examples[row]), console, 10**4))
        table.add_row("!" if row in far else "", str(row), number, *values, Text(told[:200]))
    yield table
    if len(order) > len(shown):
        yield f"... and {len(order) - len(shown)} more, with smaller gradients."
    if look.origin:
        yield Text(str(look.origin), "bold")
    if look.rows.alone:
        yield "Each row with copies of itself in place of the others: the loss of the batch is not finite."
    if not far:
        yield "No row is far from the others."
    for row in sorted(far):
        yield Text(f"! Row {row}: {'; '.join(far[row])}", "bold")
        for part in draw_example(found.examples[row], console, width - INDENT):
            yield Padding(part, (0, 0, 0, INDENT))
    if pictures := {row: pictures_of(found.examples[row]) for row in order[:SHOWN_PICTURES] if row not in far}:
        yield from draw_grid({row: some[0] for row, some in pictures.items() if some}, console, width)


def _draw_examples(found: Inspection, rows: Any, console: Console, width: int) -> list[RenderableType]:
    return [line for row in rows for line in draw_example(found.examples[row], console, width)]


def _draw_layers(look: Look) -> Table:
    table = Table.grid("layer", "shape", *_right("mean", "std", "min", "max", "not finite"), padding=(0, 2, 0, 0))
    table.add_row("layer", "shape", "mean", "std", "min", "max", "not finite")
    for one in look.layers:
        numbers = map(_number, (one.mean, one.std, one.least, one.greatest))
        table.add_row(Text(one.name), str(one.shape), *numbers, f"{one.not_finite:,}" if one.not_finite else "")
    return table


def _draw_variables(found: Inspection) -> Table:
    table = Table.grid("", *_right("weights", "gradient", "change", "change/weights"), padding=(0, 2, 0, 0))
    table.add_row("norms of", "weights", "gradient", "change", "change/weights")
    for one in found.variables:
        share = one.change / one.weights if one.weights else float("nan")
        gradient = "" if one.gradient is None else _number(one.gradient)
        table.add_row(Text(one.path), _number(one.weights), gradient, _number(one.change), f"{share:.1e}")
    return table


def _table(*names: str) -> Table:
    table = Table.grid(*_right(*names), padding=(0, 2, 0, 0))
    table.add_row(*names)
    return table


def _right(*names: str) -> list[Column]:
    return [Column(name, justify="right", no_wrap=True) for name in names]


def _number(value: Any) -> str:
    return f"{value:.4g}" if np.ndim(value) == 0 else str(np.shape(value))
