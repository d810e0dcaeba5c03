"""How good every task is after how much training: its score on validation data against the seconds of training.

Each task trains with its preset in a process of its own, one after the other, for `--seconds` of the clock (tracing and
validations included, the scoring of DCGAN's images left out), from `--rounds` seeds. The score comes after every epoch:
it is what the task chooses its best checkpoint by, and for DCGAN the Fréchet distance of its images on the features of
a digit classifier. A row of the table is a share of the time, its samples are the seeds' best scores so far.
"""

import math

from benchmarks import command, harness, presets, report
from benchmarks.harness import Entry
from benchmarks.presets import UNITS

DEFAULTS = {"seconds": 60.0, "preset": "sample", "tasks": ",".join(UNITS)}
SHARES = (0.25, 0.5, 1.0)
SCORES = {  # the score's name, and whether more is better
    "text_generation": ("validation loss", False),
    "dcgan": ("Fréchet distance", False),
    "translation": ("BLEU", True),
    "captioning": ("CIDEr-D", True),
}
IMAGES = 500  # of a Fréchet distance, at most


def train(gate, task: str, preset: str, seconds: float) -> None:
    """A run for every turn, each from another seed; tells the gate all scores with their times."""
    import tempfile

    import lightkeras as lk

    seed = 0
    gate()
    while True:
        made = presets.read(task, preset)
        module, data = presets.build(task, made)
        scores = make_scores(lk, task, seconds)
        options = {**made["trainer"], "seed": seed, "callbacks": [scores], "num_sanity_val_steps": 0}
        with tempfile.TemporaryDirectory() as folder:
            lk.Trainer(default_root_dir=folder, **options).fit(module, data)
        seed += 1
        gate(told=scores.curve)


def make_scores(lk, task: str, seconds: float):
    """A callback that notes (seconds, score) after every validation, and ends training when the time is over."""
    import time

    class Scores(lk.Callback):
        def __init__(self):
            super().__init__()
            self.curve, self._began, self._apart = [], time.perf_counter(), 0.0

        def on_log(self, record):
            if self._spent() >= seconds:
                self.model.stop_training = True

        def on_validation_end(self, record):
            now = self._spent()
            self.curve.append((now, self._score(record)))
            self._apart += self._spent() - now
            self.on_log(record)

        def _spent(self):
            return time.perf_counter() - self._began - self._apart

        def _score(self, record):
            return _frechet_distance(lk, self.model) if task == "dcgan" else record[self.model.monitor[0]]

    return Scores()


def _frechet_distance(lk, task) -> float:
    train, test = (lk.metrics.LabelledImages(*task.data.splits[name]) for name in ("train", "test"))
    images = task.generate(min(IMAGES, len(test.images)))
    return lk.metrics.evaluate_gan(images, train, test)["generated"]["frechet_distance"]


def best_until(curve: list, seconds: float, higher: bool) -> float:
    """The best score of (seconds, score) pairs so far; NaN before the first."""
    scores = [score for at, score in curve if at <= seconds]
    return (max if higher else min)(scores) if scores else math.nan


def measure(chosen) -> list[report.Table]:
    """A table for each task."""
    tables = []
    for task in command.listed("tasks", chosen.tasks, UNITS):
        settings = {"task": task, "preset": chosen.preset, "seconds": chosen.seconds}
        entries = command.select({"Trainer.fit": Entry("benchmarks.quality:train", settings)}, chosen.only)
        curves = harness.race(entries, chosen.rounds, warm_up=0, title=task)["Trainer.fit"].told
        tables.append(make_table(task, chosen, curves))
    return tables


def make_table(task: str, chosen, curves: list) -> report.Table:
    """The table and the curves of the runs of one task, one for every seed."""
    name, higher = SCORES[task]
    rows = {}
    for share in SHARES:
        until = math.inf if share == 1 else share * chosen.seconds  # the last validation may end a little late
        reached = [best_until(curve, until, higher) for curve in curves]
        rows[f"after {share * chosen.seconds:.0f} s"] = report.Row(
            [score for score in reached if not math.isnan(score)]
        )
    rows = {label: row for label, row in rows.items() if row.samples}
    lines = {f"seed {seed}": curve for seed, curve in enumerate(curves)}
    axes = ("seconds of training", name)
    title = f"{task}, preset {chosen.preset}: {name}"
    return report.Table(title, name, list(rows)[-1], rows, higher, lines, axes)


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    return command.run("quality", __doc__, DEFAULTS, arguments, measure, rounds=1)
