"""Every competitor of the benchmarks works, in this process and with tiny sizes; the tables made of them."""

import argparse
import importlib
import json
from pathlib import Path

import pytest

from benchmarks import (
    command,
    generation,
    harness,
    input,
    memory,
    overhead,
    peer_updates,
    presets,
    quality,
    scaling,
    tasks,
)
from benchmarks.harness import Measured
from benchmarks.peers import shapes
from lightkeras.cli import main as cli

TINY = {
    "overhead": ["--steps", "4", "--wide_steps", "3", "--wide", "5"],
    "peers": ["--size", "tiny", "--steps", "1"],
    "generation": ["--size", "tiny", "--length", "10", "--texts", "3", "--sentences", "3", "--words", "3"],
    "input": ["--examples", "300", "--times", "1,2"],
    "scaling": ["--size", "tiny", "--steps", "1"],
    "tasks": ["--steps", "1"],
    "quality": ["--seconds", "8"],
}


MODULES = {"peers": "benchmarks.peer_updates"}


class Done(Exception):
    """Raised by a gate that has seen enough."""


class Gate:
    """Lets `stretches` of them pass; keeps what it was told."""

    def __init__(self, stretches: int):
        self.left, self.units, self.told = stretches + 1, [], []

    def first_step(self):
        pass

    def __call__(self, units=None, told=None):
        self.units.append(units)
        self.told.append(told)
        self.left -= 1
        if not self.left:
            raise Done


def chosen(name: str, *more: str) -> argparse.Namespace:
    """A benchmark's options with tiny sizes."""
    parser = command.parser(name, "", importlib.import_module(MODULES.get(name, f"benchmarks.{name}")).DEFAULTS, 2)
    return parser.parse_args([*TINY.get(name, []), *more])


def work(entry: harness.Entry, stretches: int = 2) -> Gate:
    """Runs a competitor here."""
    for package in entry.needs:
        pytest.importorskip(package)
    module, _, function = entry.function.partition(":")
    gate = Gate(stretches)
    with pytest.raises(Done):
        getattr(importlib.import_module(module), function)(gate, **entry.settings)
    return gate


def torch_last(entries: dict[str, harness.Entry]) -> dict[str, harness.Entry]:
    """With PyTorch imported, TensorFlow traces several times as slowly: it looks through all modules."""
    return dict(sorted(entries.items(), key=lambda item: len(item[1].needs)))


TENSORBOARD = "Keras fit, TensorBoard"  # leaves a default writer behind that others stumble over: in its own process
WIDE = overhead.wide_entries(chosen("overhead"))
OVERHEAD = {
    **overhead.entries(chosen("overhead")), "wide": WIDE["Trainer.fit"], "wide, shown": WIDE[overhead.SHOWN],
}  # fmt: skip
PEERS = {
    f"{task}: {name}": entry
    for task in ("text_lstm", "dcgan", "translation", "captioning")
    for name, entry in peer_updates.entries(task, shapes.SIZES["tiny"][task], 1, 1).items()
    if entry.onednn
}
GENERATION = {
    **{f"text: {name}": entry for name, entry in generation.text_entries(chosen("generation"), 2).items()},
    **{f"beams: {name}": entry for name, entry in generation.beam_entries(chosen("generation")).items()},
}
INPUT = {
    f"{function}: {name}": entry
    for function in ("read", "resume")
    for name, entry in input.entries(function, chosen("input"), 1).items()
}


ALL = torch_last({
    **{f"overhead: {name}": entry for name, entry in OVERHEAD.items() if name != TENSORBOARD}, **PEERS, **GENERATION,
    **{f"input: {name}": entry for name, entry in INPUT.items()},
})  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_a_competitor_works(name):
    told = work(ALL[name]).units
    assert told[0] is None and (name not in GENERATION or min(told[1:]) > 0)


def test_keras_own_tensorboard_takes_part():
    found = harness.race({TENSORBOARD: OVERHEAD[TENSORBOARD]}, rounds=1)
    assert len(found[TENSORBOARD].seconds) == 1


def test_tasks_count_what_the_loss_counts():
    entry = tasks.entries("text_generation", chosen("tasks"))["XLA off"]
    assert work(entry).units[1:] == [64 * 100] * 2


def test_quality_tells_scores_with_their_times(tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, " * 60)
    data = {"source": str(text), "seq_len": 10, "batch_size": 8}
    small = {"trainer": {"max_epochs": 3}, "task": {"units": 4, "embedding_dim": 3}, "data": data}
    monkeypatch.setattr(presets, "read", lambda name, preset: small)
    settings = {"task": "text_generation", "preset": "sample", "seconds": 100.0}
    (curve,) = work(harness.Entry("benchmarks.quality:train", settings), stretches=1).told[1:]
    assert len(curve) == 3 and 0 < curve[0][0] < curve[1][0] < curve[2][0]
    assert 0 < curve[2][1] < curve[0][1] < 3


# ---- tables


def pretend(entries, rounds, warm_up=1, profile=False, title=""):
    """A race without processes."""
    harness.check_packages({})
    made = {}
    for number, name in enumerate(entries, 1):
        waited = {"host": 0.25, "device": 0.0} if profile else None
        curve = [[2.0, 3.0], [5.0, 2.0], [9.0, 1.0]]
        made[name] = Measured(
            [1.0 * number] * rounds, [12.0] * rounds, [curve] * rounds, 3.0, 2.0, 2**30, waited=waited
        )
    return made


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_from_its_options_to_its_report(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(harness, "race", pretend)
    monkeypatch.chdir(tmp_path)
    line = ["bench", name, *TINY[name], "--rounds", "2", "--plot", "plot.png"]
    assert cli.main(line) == 0
    report = json.loads(Path(f"bench_{name}.json").read_text())
    assert report["benchmark"] == name and report["tables"] and Path("plot.png").exists()
    for table in report["tables"]:
        assert table["base"] in table["rows"] and all(row["samples"] for row in table["rows"].values())
    assert cli.main([*line[:-2], "--compare", f"bench_{name}.json", "--out", "new.json"]) == 0
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize(("module", "ours"), [(peer_updates, "Trainer.fit"), (tasks, tasks.BASE)])
def test_precision_and_xla_are_columns(monkeypatch, module, ours):
    monkeypatch.setattr(harness, "race", pretend)
    name = "peers" if module is peer_updates else "tasks"
    table = module.measure(chosen(name, "--precisions", "32,bf16-mixed", "--xla", "auto,on"))[0]
    found = {key: row.facts["columns"] for key, row in table.rows.items() if "XLA" in row.facts["columns"]}
    assert [(one["precision"], one["XLA"]) for one in found.values()][-3:] == [
        ("32", "on"), ("bf16-mixed", "auto"), ("bf16-mixed", "on"),
    ]  # fmt: skip
    assert ours in table.rows and list(found)[-1].endswith("bf16-mixed, XLA on")


def test_mixed_precision_trains():
    entries = peer_updates.entries("text", shapes.SIZES["tiny"]["text"], 1, 1, command.variants("bf16-mixed", "off"))
    work(entries["Trainer.fit, bf16-mixed, XLA off"])


def test_efficiency_is_the_share_of_an_even_speed_up(monkeypatch):
    monkeypatch.setattr(harness, "race", pretend)
    (table,) = scaling.measure(chosen("scaling", "--devices", "1,2,4"))
    found = [row.facts["columns"]["efficiency"] for row in table.rows.values()]
    assert found == pytest.approx([1.0, 1 / 2, 1 / 3])  # of batches twice and four times as large


def test_the_best_score_so_far():
    curve = [(2.0, 3.0), (5.0, 4.0), (9.0, 2.0)]
    assert [quality.best_until(curve, 6.0, higher) for higher in (True, False)] == [4.0, 3.0]
    (table,) = [quality.make_table("captioning", chosen("quality"), [curve])]
    assert {name: row.samples for name, row in table.rows.items()} == {
        "after 2 s": [3.0],
        "after 4 s": [3.0],
        "after 8 s": [4.0],
    }


@pytest.mark.parametrize(("function", "settings"), memory.KINDS.values(), ids=memory.KINDS)
def test_memory_trains_on_files(function, settings, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", "")  # the function sets it
    monkeypatch.setattr("tasks.text_generation.data.IN_MEMORY", 10**5)
    settings = {**settings, "gigabytes": 3e-3, "batch": 8, "root": str(tmp_path)}
    entry = harness.Entry(f"benchmarks.memory:{function}", settings)
    assert not work(entry, 1).left


def test_memory_takes_the_kinds_that_are_asked_for(monkeypatch):
    raced = []
    monkeypatch.setattr(harness, "race", lambda entries, *args, **more: raced.extend(entries) or exit())
    with pytest.raises(SystemExit):
        memory.measure(chosen("memory", "--only", "text, 0.1"))
    assert raced == ["text, 0.1 GB"]


@pytest.mark.parametrize("function", ["trainer_fit", "keras_fit"])
def test_sources_train_on_the_same_batches(function):
    settings = {"kind": "items", "workers": 2, "steps": 2, "wait": 0.0}
    assert not work(harness.Entry(f"benchmarks.sources:{function}", settings)).left
