"""What a line about an epoch says: which metrics, how they are written, which one is the best so far."""

from collections.abc import Iterable

from lightkeras.callbacks.log_values import is_speed
from lightkeras.data.named_sets import metric_prefix
from lightkeras.utils.formats import format_value
from lightkeras.utils.terminal import Part

BEST = "(best)"
WHERE, FIRST, LEFT, CLOCK, SPEED, OTHERS = 0, 1, 3, 4, 6, 7  # ranks of parts; the second and third metric lie between


def format_speed(record: dict[str, float]) -> str:
    """`19,682 characters/s` of a record of `Throughput`'s; `4.386 steps/s` where nothing else is counted."""
    rates = [name for name in record if name.endswith("_per_second")]
    name = next((name for name in rates if name != "steps_per_second"), rates[0] if rates else None)
    return f"{format_value(record[name])} {name.removesuffix('_per_second')}/s" if name else ""


def order_metrics(names: Iterable[str], shown: Iterable[str], set_names: Iterable[str], monitor: str | None) -> list:
    """Lists the metrics that are worth the line, the most important first.

    Args:
        names: The names of the values that there are.
        shown: The names that the task declares. `val_NAME` stands for `val_SET_NAME` of named validation sets. Where
            there are none of them: the training losses, the monitored metric, other losses, then the rest.
        set_names: The names of the validation sets.
        monitor: The monitored metric, or None.
    """
    names = [name for name in names if name not in ("epoch", "step") and not is_speed(name)]
    wanted = [one for name in shown for one in _in_sets(name, set_names) if one in names]
    return wanted or sorted(names, key=lambda name: _importance(name, monitor))


def _in_sets(name: str, set_names: Iterable[str]) -> list[str]:
    if not name.startswith("val_"):
        return [name]
    return [metric_prefix("val", one) + name.removeprefix("val_") for one in set_names]


def _importance(name: str, monitor: str | None) -> int:
    validation, loss = name.startswith("val_"), name.endswith("loss")
    order = [loss and not validation and name != monitor, name == monitor, loss, "learning_rate" not in name]
    return [*order, True].index(True)


def metric_parts(values: dict[str, float], names: list[str], best: str | None = None) -> list[Part]:
    """Makes a part of each metric; that of the name `best` is marked."""
    parts = []
    for place, name in enumerate(names):
        rank = (FIRST, FIRST + 1, CLOCK + 1)[place] if place < 3 else OTHERS + place
        mark, style = (f" {BEST}", "bold green") if name == best else ("", "")
        parts.append(Part(f"{name} {format_value(values[name])}{mark}", rank, style))
    return parts


def draw_bar(share: float, columns: int, ascii_only: bool) -> str:
    """Draws a bar of this number of columns, of which `share` (0 to 1) is done."""
    done = round(2 * columns * min(max(share, 0.0), 1.0))  # halves of a column
    if ascii_only:
        return f"{'#' * (done // 2):-<{columns}}"
    return f"{'━' * (done // 2) + '╸' * (done % 2):─<{columns}}"
