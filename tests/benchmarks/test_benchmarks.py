"""The benchmarks: who takes part, what is measured of them, and what becomes of it. Timing decides nothing here."""

import json
from pathlib import Path

import pytest
from helpers import competitors

from benchmarks import command, flops, harness, peer_updates, report
from benchmarks.harness import Entry, Measured
from benchmarks.peers import shapes
from lightkeras.cli import main as cli
from lightkeras.cli import registry

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def here(monkeypatch, tmp_path):
    """An empty folder, and `tests/competitors.py` importable in the competitors' processes."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sleepers(**milliseconds):
    return {name: Entry("helpers.competitors:sleeper", {"milliseconds": ms}) for name, ms in milliseconds.items()}


def measured(*seconds, **others):
    return Measured(list(seconds), start_seconds=2.0, first_seconds=1.0, peak_memory=3 * 2**20, **others)


# ---- the race


def test_every_round_of_every_competitor_is_kept_and_the_first_stretch_is_apart(here):
    found = harness.race(sleepers(quick=1.0, slow=20.0), rounds=3)
    assert list(found) == ["quick", "slow"]
    for one, seconds in zip(found.values(), (0.001, 0.02), strict=True):
        assert len(one.seconds) == 3 and all(taken >= seconds for taken in one.seconds)
        assert one.first_seconds >= 10 * seconds and one.start_seconds > 0 and one.peak_memory > 2**20
        assert one.units == [seconds * 1e3] * 3
        assert (one.graphs, one.timed_graphs, one.compilations, one.timed_compilations) == (0, 0, 0, 0)


def test_tracing_compiling_and_waiting_are_counted(here):
    found = harness.race({"tracer": "helpers.competitors:tracer"}, rounds=3, profile=True)["tracer"]
    assert (found.graphs, found.timed_graphs) == (1, 1)
    assert (found.compilations, found.timed_compilations) == (1, 1)
    assert 0.5 < found.waited["host"] <= 1 and found.waited["device"] == 0


def test_stderr_tells_what_runs_and_how_long_it_takes(here, capsys):
    harness.race(sleepers(quick=1.0, slow=400.0), rounds=2, title="Naps")
    told = capsys.readouterr().err.splitlines()
    assert told[:5] == [
        "Naps: starting 1 of 2: quick", "Naps: starting 2 of 2: slow",
        "Naps: warming up: quick", "Naps: warming up: slow", "Naps: round 1 of 2: quick, 0:00:08 left",
    ]  # fmt: skip
    assert (
        told[5].startswith("Naps: round 1 of 2: slow, 0:00:0") and told[7] == "Naps: round 2 of 2: slow, 0:00:00 left"
    )


def test_a_competitor_that_fails_is_shown_with_what_it_said(here):
    with pytest.raises(RuntimeError, match=r"(?s)a time from bad\. .*ArithmeticError: no more"):
        harness.race({**sleepers(good=1.0), "bad": Entry("helpers.competitors:dies")}, rounds=2)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(harness.importlib.util, "find_spec", lambda name: None)
    entries = {"PyTorch": Entry("helpers.competitors:sleeper", needs=("torch",))}
    with pytest.raises(ModuleNotFoundError, match=r"Expected PyTorch for PyTorch: pip install 'lightkeras\[bench\]'"):
        harness.race(entries, rounds=1)


# ---- tables


def test_a_table_of_times_and_one_of_speeds():
    raced = {"a": measured(2.0, 4.0, 3.0), "b": measured(6.0, 6.0, 6.0)}
    times = report.make_table("t", "ms a step", raced, "b", 100.0, steps=10)
    assert times.rows["a"].samples == [200.0, 400.0, 300.0] and times.ratio("a") == 0.5
    assert times.rows["a"].quartiles == (250.0, 300.0, 350.0)
    speeds = report.make_table("t", "steps/s", raced, "nobody", 12.0, steps=10, speed=True)
    assert speeds.base == "a" and speeds.rows["b"].samples == [2.0] * 3 and speeds.ratio("b") == 0.5


def test_the_time_to_the_first_step_leaves_the_other_steps_out():
    facts = report.facts(Measured([1.0], start_seconds=5.0, first_seconds=4.0), steps=10)
    assert facts["time_to_first_step"] == pytest.approx(5.0 + 4.0 - 0.9)
    told = Measured([1.0], start_seconds=5.0, first_seconds=4.0, first_step_seconds=1.5)
    assert report.facts(told, steps=10)["time_to_first_step"] == 6.5


def test_the_table_is_printed(capsys):
    raced = {"ours": measured(2.0, 4.0, 3.0, graphs=7, timed_graphs=1), "theirs": measured(6.0)}
    table = report.make_table("A step", "ms", raced, "theirs", 1e3, steps=1, note="A note.")
    table.rows["ours"].facts["columns"] = {"images/s": 12345.6}
    report.show(table)
    shown = " ".join(capsys.readouterr().out.split())
    for part in ("A step", "3,000", "2,500 - 3,500", "0.50", "12,346", "3 MiB", "1 + 0 XLA", "A note."):
        assert part in shown


# ---- the command


def of_sleepers(chosen):
    taking_part = command.select(sleepers(ours=chosen.milliseconds, theirs=2.0), chosen.only)
    return [report.make_table("A nap", "ms", harness.race(taking_part, chosen.rounds), "theirs", 1e3, 1)]


def run(*arguments):
    return command.run("naps", "Naps.", {"milliseconds": 1.0}, list(arguments), of_sleepers, rounds=2)


def test_the_report_holds_every_sample_and_what_it_depends_on(here):
    assert run("--out", "naps.json", "--plot", "naps.png", "--milliseconds", "3") == 0
    written = json.loads(Path("naps.json").read_text())
    assert written["benchmark"] == "naps" and written["settings"] == {"milliseconds": 3.0}
    assert written["cores"] >= 1 and written["versions"]["keras"] and written["processor"]
    (table,) = written["tables"]
    assert (table["title"], table["unit"], table["base"]) == ("A nap", "ms", "theirs")
    assert {name: len(row["samples"]) for name, row in table["rows"].items()} == {"ours": 2, "theirs": 2}
    assert {"time_to_first_step", "peak_memory", "timed_graphs"} <= set(table["rows"]["ours"])
    assert Path("naps.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("factor", "code"), [(0.01, 1), (100.0, 0)])
def test_comparing_tells_what_became_slower(here, capsys, factor, code):
    assert run("--out", "old.json") == 0
    old = json.loads(Path("old.json").read_text())
    for row in old["tables"][0]["rows"].values():
        row["median"] *= factor
    Path("old.json").write_text(json.dumps(old))
    assert run("--compare", "old.json", "--threshold", "0.5") == code
    assert ("Slower by more than 50%: A nap: ours; A nap: theirs" in capsys.readouterr().err) == bool(code)
    assert run("--compare", "old.json", "--threshold", "50", "--relative") == 0


def test_speeds_compare_the_other_way_round():
    rows = {"a": report.Row([10.0])}
    old = {"benchmark": "b", "settings": {}, "time": "then", "commit": None}
    old["tables"] = [report.Table("t", "images/s", "a", {"a": report.Row([20.0])}, True).as_json()]
    now = [report.Table("t", "images/s", "a", rows, True)]
    assert report.compare(old, "b", {}, now, 0.1, relative=False) == ["t: a"]
    with pytest.raises(ValueError, match=r"one setting of steps. Received: None before, 3 now"):
        report.compare(old, "b", {"steps": 3}, now, 0.1, relative=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nobody"], "Expected `only` to be parts of the names ours, theirs. Received: only=['nobody']"),
        (["--compare", "none.json"], "none.json"),
        (["--out", "none/naps.json"], "Expected `out` to be a file in an existing folder"),
    ],
)
def test_a_wrong_option_is_answered_in_one_line(here, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(registry, "benchmarks", lambda: {"naps": "helpers.competitors.naps"})
    monkeypatch.setattr(competitors, "naps", lambda arguments: run(*arguments), raising=False)
    assert cli.main(["bench", "naps", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("lightkeras: error: ") and message in error and error.count("\n") == 1


def test_curves_are_drawn(tmp_path):
    curves = {"a": [(0.0, 1.0), (1.0, 2.0)]}
    table = report.Table("t", "loss", "a", {"a": report.Row([1.0])}, curves=curves, axes=("s", "loss"))
    report.plot(tmp_path / "curves.png", [table])
    assert (tmp_path / "curves.png").stat().st_size > 1000


# ---- the benchmarks


@pytest.mark.parametrize("name", registry.benchmarks())
def test_every_benchmark_says_what_it_does(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"lightkeras bench {name}" in shown and "--rounds" in shown


def test_peers_take_part_in_every_task():
    for task in shapes.TASKS:
        entries = peer_updates.entries(task, shapes.SIZES["tiny"][task], 1, 1)
        assert {"Trainer.fit", "PyTorch", "PyTorch Lightning", "Keras fit", "the original notebook"} <= set(entries)
        assert not set(entries) - {"Trainer.fit"} & {name for name, e in entries.items() if "our" in e.function}


def test_operations_are_counted_by_hand():
    one = {"vocabulary": 5, "embedding": 2, "units": 3, "layers": 1, "batch": 1}
    assert flops.text(**one, cell="gru", time=1) == 3 * 2 * (2 * 9 + 3 * 9 + 3 * 5)
    assert flops.text(**{**one, "layers": 2}, cell="lstm", time=4) == 3 * 2 * 4 * (2 * 12 + 3 * 12 + 2 * 3 * 12 + 3 * 5)
    text = flops.count_model("text", shapes.SIZES["full"]["text"])
    assert text == pytest.approx(154e9, rel=0.01)  # counted by others for the same network
    few, many = (flops.count_model("translation", {**shapes.SIZES["tiny"]["translation"], "batch": n}) for n in (1, 7))
    assert many == 7 * few
    assert flops.count_model("captioning", shapes.SIZES["tiny"]["captioning"]) > 0
    assert flops.count_model("dcgan", shapes.SIZES["full"]["dcgan"]) == pytest.approx(116e9, rel=0.1)


def test_the_peak_is_that_of_the_card():
    assert flops.peak(["NVIDIA A100-SXM4-80GB"], half=True) == 312e12
    assert flops.peak(["NVIDIA H200"]) == 494e12
    assert flops.peak([]) is None and flops.peak(["NVIDIA GeForce"]) is None
