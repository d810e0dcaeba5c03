"""The page of a run, of several, of a search: made from folders alone, whatever state they are in."""

import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers import run_folders as folders

from lightkeras.cli.main import main
from lightkeras.report import Curve, Picture, Section, Table, Text, blocks, charts, make_report
from lightkeras.report.curves import group_metrics, label_of, shorten_labels
from lightkeras.report.record import SECTIONS, RunRecord
from lightkeras.report.rows import parse_rows
from lightkeras.report.samples import choose

DARK = np.zeros((2, 2), np.uint8)


class Content(HTMLParser):
    """Text and addresses of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.texts, self.tags, self.addresses = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())


@pytest.fixture
def run(tmp_path):
    return folders.write_run(tmp_path / "classifier" / "one")


def texts(*runs) -> list[str]:
    return Content(make_report(*runs)).texts


def test_a_finished_run_is_told_whole(run):
    found = texts(run)
    assert found[found.index("classifier / one") :][:3] == [
        "classifier / one", "finished",
        "Best val_loss 1.119 after 60 updates; 60 updates in 3 epochs, 0:20.",
    ]  # fmt: skip
    headings = ["Curves", "Samples", "Time", "Configuration", "Versions and data", "Make it again"]
    assert [text for text in found if text in headings][:6] == headings  # the links
    assert f"lightkeras fit --config {run}/config.yaml" in found
    assert found[found.index("task.units") + 1] == "5" and found[found.index("tensorflow") + 1] == "2.21.0"
    spent = found.index("Where the time went")
    assert found[spent + 1 :][:9] == [
        "updates", "0:05", "50.0 %", "validation", "0:03", "30.0 %", "tracing", "0:02", "20.0 %",
    ]  # fmt: skip


def test_the_page_asks_for_nothing_and_runs_nothing(run):
    page = make_report(run)
    content = Content(page)
    assert "script" not in content.tags and "link" in content.tags
    outside = [one for one in content.addresses if not one.startswith(("#", "data:"))]
    assert outside == [] and "url(" not in page and "@import" not in page
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page


def test_texts_stay_texts(run):
    (run / SECTIONS).write_text(json.dumps([blocks.to_json(Section(folders.HOSTILE, [
        Text(folders.HOSTILE, folders.HOSTILE), Table([folders.HOSTILE], [[folders.HOSTILE]], folders.HOSTILE),
        Picture(folders.picture(DARK), folders.HOSTILE, folders.HOSTILE),
    ], folders.HOSTILE))]))  # fmt: skip
    page = make_report(run)
    assert Content(page).tags.count("script") == 0 and "<b>" not in page.replace('<b dir="auto">', "")
    assert page.count("&lt;script&gt;alert(") >= 8 and 'alt="&lt;script&gt;' in page
    assert '<pre dir="auto"' in page and "שלום" in page


def test_the_data_is_what_the_newest_whole_checkpoint_knows(run):
    for step, words in ((10, ["a"]), (20, [f"word {i}" for i in range(50)])):
        (run / f"checkpoints/step_{step:09d}").mkdir(parents=True)
        state = {"seed": 7, "data_state": {"vocabulary": {"words": words}}}
        (run / f"checkpoints/step_{step:09d}/manifest.json").write_text(json.dumps({"state": state}))
    (run / "checkpoints/step_000000030").mkdir()
    found = texts(run)
    data = found[found.index("Data, as the checkpoints know it") :]
    assert data[3:7] == ["seed", "7", "vocabulary.words", "50 entries"]
    digest = hashlib.sha256(json.dumps(state["data_state"]).encode()).hexdigest()[:32]
    assert data[7:9] == ["digest of these", digest]


def test_what_is_half_written_or_missing_is_left_out(run):
    whole = RunRecord(run).rows
    with (run / "metrics.csv").open("a") as file:
        file.write("3,70,0.1,zero,0.1,,\n3,70\n3,80,0.12")
    rows = RunRecord(run).rows
    assert (rows.count, rows.broken, rows.step) == (whole.count, 2, 60) and rows.columns == whole.columns
    (run / "samples/epoch_0002.png").write_bytes(b"\x89PNG half")
    (run / "samples/epoch_0001.txt").unlink()
    (run / "samples/epoch_0001.txt").symlink_to("/etc/passwd")
    (run / SECTIONS).write_text('[{"title": "half"')
    (run / "checkpoints/step_000000060").mkdir(parents=True)
    (run / "checkpoints/step_000000060/manifest.json").write_text('{"state": ')
    with (run / "timeline.jsonl").open("a") as file:
        file.write('{"event": "start", "time": 1}\n{"event": "other", "time": 1, "step": 2}\n{"event": "sta')
    page = make_report(run)
    assert "root:" not in page and page.count("data:image/png") == 1
    assert "From 9 rows of metrics.csv; 2 rows could not be read." in page


def test_a_run_without_a_value_an_earlier_version_and_no_run(run, tmp_path):
    for name in ("timeline.jsonl", "metrics.csv"):
        (run / name).unlink()
    found = texts(run)
    assert "No value is logged yet." in found and "ended" in found and "Time" not in found
    with pytest.raises(ValueError, match="Expected `RUN` to be the folder of a run or of a search"):
        make_report(tmp_path)
    assert main(["report", str(tmp_path)]) == 1


@pytest.mark.parametrize(
    ("events", "process", "status"),
    [
        ([folders.start(1.0)], "this", "running"),
        ([folders.start(1.0)], "none", "killed"),
        ([folders.start(1.0), folders.end(2.0, 5, "interrupted by SIGTERM")], None, "interrupted by SIGTERM"),
        ([folders.start(1.0), folders.progress(2.0, 5), folders.start(9.0, 4)], "this", "running"),
    ],
)
def test_status(run, events, process, status):
    folders.write_timeline(run, *events)
    if process:
        folders.write_lock(run, {"this": os.getpid(), "none": 2**22 + 1}[process])
    assert RunRecord(run).status == status


def test_kills_and_resumes_on_the_time_line(run):
    folders.write_timeline(run, folders.start(0.0), folders.progress(30.0, 20), folders.start(90.0, 10),
                           folders.end(100.0, 60))  # fmt: skip
    page = make_report(run)
    label = 'aria-label="ran: updates 0 to 20, 0:30; paused: not running for 1:00; ran: updates 10 to 60, 0:10'
    assert label in page
    assert [f"flex-grow:{share}" in page for share in (30.0, 60.0, 10.0)] == [True] * 3
    found = Content(page).texts
    ends = found[found.index("Starts of the run") + 6 :]
    assert ends[1:5] == ["0", "20", "0:30", "killed"] and ends[6:10] == ["10", "60", "0:10", "finished"]


# ---- charts


def test_no_spike_is_lost_where_values_are_thinned():
    xs = range(100_000)
    ys = [1.0] * 100_000
    ys[54_321], ys[54_322] = 7.0, -3.0
    points = charts.thin(xs, ys, 0, 99_999)
    assert len(points) <= 4 * charts.COLUMNS and (54_321, 7.0) in points and (54_322, -3.0) in points
    assert points == sorted(points) and points[0] == (0, 1.0) and points[-1] == (99_999, 1.0)
    chart = charts.draw("loss", [charts.Line("training", xs, ys)])
    assert chart and "100,000 values: each of 600 columns shows its lowest and highest" in chart.note
    few = list(range(2400))
    assert len(charts.thin(few, few, 0, 2399)) == 2400  # all of them


def test_axes_have_round_numbers_and_labels_do_not_overlap():
    lines = [charts.Line(name, [0, 10, 20], [0.5, 0.7, 0.9 - i / 100], i) for i, name in enumerate("abc")]
    chart = charts.draw("x", lines)
    assert chart
    assert chart.y_ticks == [(0.0, "0.5"), (25.0, "0.6"), (50.0, "0.7"), (75.0, "0.8"), (100.0, "0.9")]
    assert chart.x_ticks == [(0.0, "0"), (25.0, "5"), (50.0, "10"), (75.0, "15"), (100.0, "20")]
    tops = sorted(line.top for line in chart.lines)
    assert all(b - a >= charts.LABEL for a, b in itertools.pairwise(tops)) and tops[-1] <= charts.HEIGHT
    assert [line.label for line in chart.lines] == ["a", "b", "c"]
    assert chart.columns == ["updates", "a", "b", "c"] and chart.rows[2] == ["20", "0.9", "0.89", "0.88"]


def test_values_over_many_orders_and_values_that_are_no_numbers():
    chart = charts.draw("x", [charts.Line("", [1, 2, 3, 4], [1e-4, float("nan"), float("inf"), 1.0])])
    assert chart and chart.log and [text for _, text in chart.y_ticks] == ["0.0001", "0.001", "0.01", "0.1", "1"]
    assert chart.note == "logarithmic scale; 2 values that are not finite are left out"
    assert charts.draw("x", [charts.Line("", [1], [float("nan")])]) is None
    constant = charts.draw("x", [charts.Line("", [1, 2], [3.0, 3.0])])
    assert constant and constant.y_ticks == [(50.0, "3")]


def test_training_and_validation_share_a_chart(run):
    found = texts(run)
    charts_at = found.index("From 9 rows of metrics.csv.")
    titles = [text for text in found[charts_at:] if text in ("loss", "accuracy", "learning_rate", "val_loss")]
    assert titles[0] == "loss" and "val_loss" not in titles


def test_metrics_are_grouped_by_their_names():
    groups = group_metrics(["a_loss", "b_learning_rate", "a_learning_rate", "val_clean_a_loss", "val_x"])
    assert groups == {"a_loss": ["a_loss", "val_clean_a_loss"], "x": ["val_x"],
                      "learning_rate": ["b_learning_rate", "a_learning_rate"]}  # fmt: skip
    assert [label_of(name, "a_loss") for name in groups["a_loss"]] == ["training", "validation clean"]
    assert shorten_labels(["val_a_b_loss", "val_c_loss"]) == ["a_b", "c"]


def test_a_task_s_curve_is_drawn_from_the_run(run):
    section = Section("Own", [Curve(("loss", "no_such"), "Of its own"), Curve(("no_such",), "Nothing")], "A note")
    (run / SECTIONS).write_text(json.dumps([blocks.to_json(section)]))
    found = texts(run)
    assert "Of its own" in found and "Nothing" not in found and found.count("Own") == 2


def test_blocks_survive_json():
    shown = [Text("t", "b", True), Table(["x"], [[1.5], [None]]), Picture(folders.picture(DARK), "alt")]
    section = Section("A", [*shown, Curve(["loss"], "c")])
    assert blocks.from_json(json.loads(json.dumps(blocks.to_json(section)))) == section


def test_samples_are_chosen_evenly():
    names = [f"{i:03d}" for i in range(200)]
    assert choose(names, 3) == ["199", "100", "000"] and choose(names[:2], 3) == ["001", "000"]


# ---- several runs, a search


def test_runs_side_by_side_and_their_differences_first(run, tmp_path):
    other = folders.write_run(tmp_path / "classifier" / "two", rows=4, units=9)
    found = texts(run, other)
    first = found[found.index("2 runs") :]
    assert "A: classifier / one, B: classifier / two" in first
    table = found[found.index("option") :]
    assert table[:6] == ["option", "A", "B", "task.units", "5", "9"]
    assert table.index("Results") < table.index("val_loss")
    out = tmp_path / "both.html"
    assert main(["report", str(run), str(other), "--out", str(out)]) == 0
    assert main(["report", str(run), str(other), "--out", str(out)]) == 1  # it is there
    assert main(["report", str(run), str(run)]) == 1


TRIALS = """trial,status,score,step,epochs,seconds,task.units,task.cell,continues,run,reason
0000,COMPLETED,0.5,10,1.0,3.0,8,gru,,,
0001,COMPLETED,0.25,10,1.0,3.0,16,lstm,,,
0002,FAILED,,,,,32,gru,,,out of <memory>
0003,RUNNING,,,,,64,gru,,,
"""


def test_a_search_has_its_page(tmp_path):
    (tmp_path / "search.yaml").write_text("objective: val_loss\ndirection: min\n")
    (tmp_path / "trials.csv").write_text(TRIALS)
    (tmp_path / "best_config.yaml").write_text("task: {}\n")
    found = texts(tmp_path)
    assert "Best val_loss 0.25, of trial 0001; 0:06 of training." in found
    assert "2 completed, 1 failed, 1 running" in found and "out of <memory>" in found
    assert "val_loss by task.units" in found and "val_loss by task.cell" not in found
    ranked = found[found.index("2 of 4 trials: the completed ones, the best first") :]
    assert ranked[7:13] == ["0001", "0.25", "16", "lstm", "1", "0:03"]
    assert f"lightkeras fit --config {tmp_path}/best_config.yaml" in found


# ---- size and cost


def test_a_long_run_has_a_small_page_made_soon(tmp_path):
    """10,000 rows and 200 samples: under 5 MB, made in under 3 seconds of the processor."""
    run = folders.write_run(tmp_path / "long", rows=6_666, samples=100)
    assert RunRecord(run).rows.count == 9_999
    began = time.process_time()
    page = make_report(run)
    assert time.process_time() - began < 3 and len(page.encode()) < 5e6
    assert "24 of 200 samples, evenly chosen" in page and page.count("data:image/png") == 12


def test_no_tensorflow_is_imported(run):
    code = (
        "import sys; from lightkeras.cli.main import main; main(['--help']); assert 'jinja2' not in sys.modules; "
        f"main(['report', {str(run)!r}]); assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.endswith(
        f"Report: {run}/report.html\n"
    )
    assert parse_rows(b"").count == 0


WRONG = [
    ({"kind": "Text", "text": 5}, "`text` to be a string"),
    ({"kind": "Table", "columns": ["a", "b"], "rows": [[1, 2], [3]]}, "`rows` to be rows of 2 values"),
    ({"kind": "Table", "columns": "ab", "rows": []}, "`columns` to be a list of strings"),
    ({"kind": "Picture", "data": None, "alt": "a"}, "`data` to be the content of a picture's file"),
    ({"kind": "Curve", "metrics": "loss", "title": "a"}, "`metrics` to be a list of strings"),
]


@pytest.mark.parametrize(("values", "error"), WRONG)
def test_a_block_of_other_values_is_refused_by_its_maker_and_left_out_of_a_page(run, values, error):
    given = dict(values)
    with pytest.raises(ValueError, match=f"Expected {error}"):
        getattr(blocks, given.pop("kind"))(**given)
    (run / SECTIONS).write_text(json.dumps([{"title": "Mine", "blocks": [values]}]))
    assert ">Mine<" not in make_report(run) and RunRecord(run).sections == []


@pytest.mark.parametrize("wrong", [None, "x", [1], {"a": "b"}, -1, 1e300, math.nan], ids=str)
def test_values_of_another_kind_are_left_out(run, wrong):
    """Each value of the time line, of config.yaml's parts and of a checkpoint's state in turn."""
    start, end = folders.start(0.0), {**folders.end(9.0, 60), "speeds": {"steps_per_second": 3.0}}
    for event in (start, end):
        for name in event:
            changed = [{**one, name: wrong} if one is event else one for one in (start, end)]
            folders.write_timeline(run, *changed)
            assert "<h2" in make_report(run)
    folders.write_timeline(run, start, end)
    for part in ("task", "data", "trainer"):
        (run / "config.yaml").write_text(json.dumps({part: wrong}))
        assert "Make it again" in make_report(run)
    (run / "checkpoints/step_000000060").mkdir(parents=True)
    for state in (wrong, {"data_state": wrong}, {"data_state": {"vocabulary": wrong}}, {"seed": wrong}):
        (run / "checkpoints/step_000000060/manifest.json").write_text(json.dumps({"state": state}))
        assert "Versions" in make_report(run)
