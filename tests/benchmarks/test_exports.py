"""`lightkeras bench exports`: its table, of tasks of a few units."""

import json

from helpers.exporting import built, unchecked

from benchmarks import exports

ENDPOINTS = {
    "text_generation": ("generate", "generate_greedy", "step"),
    "dcgan": ("generate", "image"),
    "translation": ("translate", "translate_beam", "translate_greedy", "encode", "step"),
    "captioning": ("caption", "caption_beam", "caption_greedy", "encode", "step"),
}


class Found:
    """Stands for a task's class: its run has been trained."""

    def __init__(self, name: str):
        self.name = name

    def load_from_checkpoint(self, run: str):
        return built(self.name)


def test_a_table_for_each_endpoint_of_each_task(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exports.presets, "find_task", Found)
    monkeypatch.setattr(exports, "WORK", {})
    out = tmp_path / "bench.json"
    with unchecked(monkeypatch):
        assert exports.main(["--run", "any", "--formats", "saved_model", "--rounds", "2", "--out", str(out)]) == 0
    tables = {table["title"]: table["rows"] for table in json.loads(out.read_text(encoding="utf-8"))["tables"]}
    assert [*tables] == [f"{task}: {name}" for task, names in ENDPOINTS.items() for name in names]
    for rows in tables.values():
        assert [*rows] == ["the task", "saved_model"] and rows["the task"]["median"] == 1
        samples, columns = rows["saved_model"]["samples"], rows["saved_model"]["columns"]
        assert len(samples) == 2 and min(samples) > 0
        assert (
            float(columns["largest difference"]) <= 1e-5 and 0.01 < columns["MB"] < 5 and columns["CPU s to load"] > 0
        )
        assert columns["calls/s"] > 0 and columns["of the task"] > 0
    assert "text_generation: generate" in capsys.readouterr().out


def test_calls_take_turns_and_the_first_ones_do_not_count(monkeypatch):
    called, clock = [], iter(range(100))
    monkeypatch.setattr(exports.time, "perf_counter", lambda: next(clock))
    ours, theirs = exports.time_pairs(lambda: called.append("ours"), lambda: called.append("theirs"), 2)
    assert called == ["ours", "theirs"] * 3 and (ours, theirs) == ([1, 1], [1, 1])
