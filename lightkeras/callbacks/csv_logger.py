"""metrics.csv: epoch, step, and one column per metric by its plain name."""

import csv
import itertools
from collections.abc import Iterable

from lightkeras.callbacks.callback import Callback
from lightkeras.callbacks.log_values import is_speed, numbers_of
from lightkeras.utils.files import write_atomically


class CSVLogger(Callback):
    """Writes `metrics.csv`: a row per logging interval and one per validation; a cell is empty where not measured.

    Speeds (`mfu`, `goodput`, names that end in `_per_second`) are left out, so that a resumed run has the same
    file as an uninterrupted one.
    """

    order = 20
    writes_files = chief_only = True

    def on_train_begin(self, logs=None):
        self._path = self.run.folder / "metrics.csv"
        self._columns, self._rows = self._measure() if self._path.exists() else ([], 0)
        if self._columns:
            self._cut(self._rows)  # a row that a kill cut off would run into the next one
        self._add_columns(["epoch", "step", *self.run.metric_names])

    def on_log(self, record):
        self._append(record)

    def on_validation_end(self, record):
        self._append(record)

    def _append(self, record: dict) -> None:
        row = {name: value for name, value in numbers_of(record).items() if not is_speed(name)}
        self._add_columns(row)
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)
        self._rows += 1

    def _add_columns(self, names: Iterable[str]) -> None:
        columns = list(dict.fromkeys([*self._columns, *names]))
        if columns != self._columns:
            self._rewrite(self._rows, columns)

    def _measure(self) -> tuple[list[str], int]:
        """Returns the file's columns and the number of its rows, without a look into a million of them."""
        with self._path.open("rb") as file:
            columns = next(csv.reader([file.readline().decode("utf-8")]), [])
            return columns, sum(line.endswith(b"\n") for line in file)

    def _rewrite(self, count: int, columns: list[str]) -> None:
        """Writes the first `count` rows with these columns."""
        rows = []
        if count:
            with self._path.open(newline="", encoding="utf-8") as file:
                rows = list(itertools.islice(csv.DictReader(file), count))
        self._rows, self._columns = count, columns
        with write_atomically(self._path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    def _cut(self, count: int) -> None:
        """Keeps the first `count` whole rows as they are."""
        with self._path.open("rb") as file:
            kept = b"".join(line for line in itertools.islice(file, count + 1) if line.endswith(b"\n"))
        with write_atomically(self._path) as partial:
            partial.write_bytes(kept)
        self._rows = count

    def state_dict(self):
        return {"rows": self._rows, "columns": self._columns}

    def load_state_dict(self, state):
        """Drops the rows written after the checkpoint: the resumed run writes them again."""
        count = min(self._rows, state["rows"])
        if state["columns"] == self._columns:
            self._cut(count)
        else:
            self._rewrite(count, state["columns"])
