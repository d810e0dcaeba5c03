"""`lightkeras bench exports`: its table of a run of a few units, made in this process."""

import importlib
import json

import pytest
from helpers.exporting import unchecked
from helpers.kill_server import TASKS
from helpers.toys import quiet

from benchmarks import exports, harness


class Stop(Exception):
    """Ends a competitor."""


def race_here(entries, rounds, title):
    """Runs the competitors one after the other in this process."""
    found = {}
    for name, entry in entries.items():
        told = []

        def gate(units=None, told=None, kept=told):
            kept.append(told)
            if len(kept) > rounds:
                raise Stop

        module, _, function = entry.function.partition(":")
        with pytest.raises(Stop):
            getattr(importlib.import_module(module), function)(gate, **entry.settings)
        found[name] = harness.Measured(seconds=[1.0] * rounds, told=told[1:])
    return found


def test_a_table_for_each_endpoint(root, tmp_path, monkeypatch, capsys):
    make_task, make_data, _ = TASKS["text_generation"]
    trainer = quiet(root, max_steps=1, limit_val_batches=0)
    trainer.fit(make_task(), make_data())
    monkeypatch.setattr(harness, "race", race_here)
    out = tmp_path / "bench.json"
    given = {"tasks": "text_generation", "run": trainer.run_dir, "formats": "saved_model,keras", "rounds": 2}
    arguments = [
        part for name, value in {**given, "seconds": 0.01, "out": out}.items() for part in (f"--{name}", str(value))
    ]
    with unchecked(monkeypatch):
        assert exports.main(arguments) == 0
    tables = {table["title"]: table for table in json.loads(out.read_text(encoding="utf-8"))["tables"]}
    assert [*tables] == [f"text_generation: {name}" for name in ("generate", "generate_greedy", "step")]
    for table in tables.values():
        assert [*table["rows"]] == ["the task", "saved_model", "keras"]
        assert all(len(row["samples"]) == 2 and row["median"] > 0 for row in table["rows"].values())
        columns = table["rows"]["saved_model"]["columns"]
        assert columns["largest difference"] <= 1e-5 and 0.01 < columns["MB"] < 5 and columns["s to load"] > 0
    assert "text_generation: generate" in capsys.readouterr().out
