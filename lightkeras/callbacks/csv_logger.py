"""metrics.csv: epoch, step, and one column per metric by its plain name."""

import csv

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
        rows = self._read() if self._path.exists() else []
        names = ["epoch", "step", *self.run.metric_names]
        self._columns = list(dict.fromkeys([*(rows[0] if rows else ()), *names]))
        self._rows = len(rows)
        self._rewrite(rows)

    def on_log(self, record):
        self._append(record)

    def on_validation_end(self, record):
        self._append(record)

    def _append(self, record: dict) -> None:
        row = {name: value for name, value in numbers_of(record).items() if not is_speed(name)}
        new = [name for name in row if name not in self._columns]
        if new:
            rows = self._read()
            self._columns += new
            self._rewrite(rows)
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)
        self._rows += 1

    def _read(self) -> list[dict]:
        with self._path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _rewrite(self, rows: list[dict]) -> None:
        with write_atomically(self._path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    def state_dict(self):
        return {"rows": self._rows, "columns": self._columns}

    def load_state_dict(self, state):
        """Drops the rows written after the checkpoint: the resumed run writes them again."""
        rows = self._read()[: state["rows"]]
        self._rows, self._columns = len(rows), state["columns"]
        self._rewrite(rows)
