"""One update of every task: ours, and the same model, batch and data elsewhere.

The competitors compute the same loss from the same weights (`tests/test_peers.py`), but for the original notebooks,
whose recipes differ: their decoders score words through wider layers, and hand no state on. (GFLOP/s are those of the
common model, as `benchmarks/flops.py` counts them, for all of them.) Data is random, in memory
and without padding, and so the peers leave out what padding needs. oneDNN's operations are on in TensorFlow, PyTorch's
Adam is fused. "Trainer.fit" is ours, its default callbacks and its logs included; "PyTorch" is a plain loop over the
same model as people write it: `nn.GRU`, `nn.LSTM`, an update of the discriminator and then one of the generator, what
does not depend on the state taken out of the decoder's loop. What comes at an epoch's end is in no stretch.
`--precisions 32,bf16-mixed --xla auto,on,off` adds ours with these.
"""

from benchmarks import command, flops, harness, report
from benchmarks.harness import Entry
from benchmarks.peers import shapes

DEFAULTS = {"steps": 3, "size": "full", "tasks": "text,text_lstm,dcgan,translation,captioning"}
DEFAULTS |= {"precisions": "32", "xla": "auto"}
TITLES = {
    "text": "Text generation, a GRU",
    "text_lstm": "Text generation, an LSTM",
    "dcgan": "DCGAN",
    "translation": "Translation",
    "captioning": "Captioning",
}
BASE, OURS = "PyTorch", "Trainer.fit"
TORCH, LIGHTNING = ("torch",), ("torch", "lightning")
_MORE = {
    "dcgan": ("PyTorch, one shared forward pass", "shared"),
    "translation": ("PyTorch, step by step", "stepwise"),
    "captioning": ("PyTorch, step by step", "stepwise"),
}


def entries(task: str, sizes: dict, steps: int, rounds: int, variants: dict | None = None) -> dict[str, Entry]:
    """Who takes part, by name; the data is enough for one epoch. `variants` are ours, as in `command.variants`."""
    settings = {"task": task, "sizes": sizes, "steps": steps, "batches": shapes.batches_for(rounds, steps)}
    more, formulation = _MORE.get(task, (None, None))
    others = (
        {more: Entry("benchmarks.peers.torch:train", {**settings, "formulation": formulation}, TORCH)} if more else {}
    )
    ours = variants or {"": ({}, {})}
    return {
        **{
            _named(name): Entry("benchmarks.peers.ours:train", {**settings, **more}) for name, (_, more) in ours.items()
        },
        BASE: Entry("benchmarks.peers.torch:train", settings, TORCH),
        **others,
        "PyTorch Lightning": Entry("benchmarks.peers.lightning:train", settings, LIGHTNING),
        "Keras fit": Entry("benchmarks.peers.keras:train", settings),
        "the original notebook": Entry("benchmarks.peers.tutorials.train:train", settings),
        "the original notebook, oneDNN off": Entry("benchmarks.peers.tutorials.train:train", settings, onednn=False),
    }


def _named(variant: str) -> str:
    return f"{OURS}, {variant}" if variant else OURS


def measure(chosen) -> list[report.Table]:
    """A table for each task."""
    return [_measure_task(name, chosen) for name in command.listed("tasks", chosen.tasks, shapes.TASKS)]


def _measure_task(task: str, chosen) -> report.Table:
    sizes = shapes.SIZES[chosen.size][task]
    variants = command.variants(chosen.precisions, chosen.xla)
    taking_part = command.select(entries(task, sizes, chosen.steps, chosen.rounds, variants), chosen.only)
    raced = harness.race(taking_part, chosen.rounds, title=TITLES[task])
    table = report.make_table(TITLES[task], "ms a step", raced, BASE, 1e3 / chosen.steps, chosen.steps)
    unit, count = shapes.count_units(task, sizes)
    columns = {_named(name): which for name, (which, _) in variants.items()}
    for name, row in table.rows.items():
        updates, which = 1e3 / row.median, columns.get(name, {})  # a second
        used = flops.used(task, sizes, updates, which.get("precision", "32") != "32")
        row.facts["columns"] = {**(which if len(variants) > 1 else {}), f"{unit}/s": count * updates, **used}
    return table


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    return command.run("peers", __doc__, DEFAULTS, arguments, measure, rounds=5)
