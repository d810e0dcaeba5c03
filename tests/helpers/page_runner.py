"""Runs the commands of the pages in this process, made small by options that come after those of the page."""

import contextlib
import importlib
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.pages import ROOT, Command, blocks
from lightkeras.cli import commands as cli_commands
from lightkeras.cli.main import main as lightkeras
from lightkeras.cli.registry import COMMANDS, benchmarks
from lightkeras.cli.replays import make_parser
from lightkeras.tuning import Tuner

SHIPPED = ("text_generation", "dcgan", "translation", "captioning")
RUN = "2026-11-23_12-00-00"  # the name of a run in the pages
DATA = {  # of a task, the smallest there is
    "text_generation": "--data.source sample --data.seq_len 8 --data.batch_size 4",
    "dcgan": "--data.source sample --data.image_size 8 --data.batch_size 4",
    "translation": "--data.source sample --data.vocabulary word --data.batch_size 4",
    "captioning": "--data.source sample --data.encoder small --data.image_size 48 --data.batch_size 4 "
    "--data.vocabulary_size null "
    "--data.max_images 100 --data.encoder_weights imagenet",
    "classifier.Classifier": "",
    "package.module.Classifier": "",
}
TASK = {
    "text_generation": "--task.units 8 --task.embedding_dim 8",
    "dcgan": "--task.generator_filters 4 --task.discriminator_filters 4",
    "translation": "--task.units 8 --task.encoder_units 8 --task.embedding_dim 8",
    "captioning": "--task.units 8 --task.embedding_dim 8",
    "classifier.Classifier": "",
    "package.module.Classifier": "",
}
EAGER = "--trainer.run_eagerly true"  # traces nothing
FIT = (
    "--trainer.limit_train_batches 1 --trainer.max_epochs 1 --trainer.num_sanity_val_steps 0 "
    f"--trainer.enable_model_summary false {EAGER}"
)
VALIDATED, UNVALIDATED = f"{FIT} --trainer.limit_val_batches 1", f"{FIT} --trainer.limit_val_batches 0"
TUNE = f"{VALIDATED} --isolate false --workers 1 --max_trials 1 --iterations 1"
SHORT = {  # of the command, beside data and task
    "fit": UNVALIDATED,
    "show": UNVALIDATED,
    "validate": f"--trainer.limit_val_batches 1 {EAGER}",
    "test": f"--trainer.limit_test_batches 1 {EAGER}",
    "check": "--only splits",
    "tune": TUNE,
    "find_lr": f"{UNVALIDATED} --steps 10",
    "find_batch_size": f"{UNVALIDATED} --start 2 --most 2 --isolate false",
}
MODULES = {
    "tasks.dcgan.evaluate": "--num 20",
    "tasks.translation.evaluate": "--beam_size 2",
    "tasks.captioning.evaluate": "--beam_size 2",
}
PREDICT = {"text_generation": "--length 5"}


class Checked(Exception):
    """Raised where a command would begin its work."""


def make_runs(folder: Path) -> None:
    """A run of every task in `folder/runs/TASK/RUN`."""
    with contextlib.chdir(folder):
        for task in SHIPPED:
            fit = VALIDATED if task == "text_generation" else UNVALIDATED
            call("fit", task, *f"{fit} {DATA[task]} {TASK[task]}".split())
            (made,) = Path("runs", task).iterdir()
            made.rename(made.with_name(RUN))


def make_files(folder: Path) -> None:
    """The files that the pages speak of: texts, photos, the search space, and the classes of the top page."""
    folder.joinpath("my_text.txt").write_text("To be, or not to be, that is the question.\n" * 100, encoding="utf-8")
    folder.joinpath("sentences.txt").write_text("la casa\nel perro\n", encoding="utf-8")
    photo = Image.fromarray(np.zeros((48, 48, 3), np.uint8))
    folder.joinpath("photos").mkdir()
    photo.save(folder / "photo.jpg")
    photo.save(folder / "photos/one.jpg")
    folder.joinpath("package").mkdir()
    for code in blocks(Path("README.md"), "python"):
        if name := named(code):
            folder.joinpath(name).write_text(code, encoding="utf-8")
            folder.joinpath("package/module.py").write_text(code, encoding="utf-8")
    for code in blocks(Path("lightkeras/keras_models/README.md"), "python"):
        folder.joinpath(str(named(code))).write_text(code, encoding="utf-8")
    for code in blocks(Path("lightkeras/tuning/README.md"), "yaml"):
        folder.joinpath(named(code)).write_text(code, encoding="utf-8")


def named(code: str) -> str | None:
    """The name of the file that a block is, which its first line gives: `# NAME; ...`."""
    found = re.match(r"# (\w+\.(?:py|yaml))\b", code)
    return found and found[1]


def forget_modules() -> None:
    """The next import reads the workspace's own files."""
    for name in ("classifier", "package", "package.module", "mymodel"):
        sys.modules.pop(name, None)


def call(*arguments: str) -> None:
    try:
        code = lightkeras(list(arguments))
    except SystemExit as error:  # an option that is wrong, or --help
        code = error.code or 0
    assert code == 0, f"exit code {code} of: lightkeras {' '.join(arguments)}"


def words_of(command: Command) -> list[str]:
    """The command's words: RUN is the task's run in the workspace, RUN2 that of another task."""
    known = [task for task in SHIPPED if any(task in word for word in command.words)] or ["text_generation"]
    places = [word.replace("RUN2", f"runs/dcgan/{RUN}") for word in command.words]
    return [re.sub(r"\bRUN\b", f"runs/{known[0]}/{RUN}", word) for word in places]


def run(command: Command, done: set[str]) -> None:
    """Runs a command; one that ran already with the same words and changes no file is left out."""
    program, *words = words_of(command)
    runner = {"lightkeras": run_lightkeras, "python": run_module, "pytest": check_pytest, "pip": check_pip}[program]
    runner(words, command, done)


def run_lightkeras(words: list[str], command: Command, done: set[str]) -> None:
    named_only = {"TASK", "NAME", "COMMAND", "package.module:build_model", "package.module:Network"} & set(words)
    if len(words) < 2 or words == ["fit", "--config"] or named_only:
        assert not words or words[0] in {*COMMANDS, "COMMAND"}, command.text  # named only
        return
    if words[0] == "launch":
        assert words[1:3] == ["--workers", "2"]  # tests/lightkeras/distribution/test_launch.py launches
        words = words[3:]
    if words[0] == "watch":
        assert Path(words[1]).is_dir(), command.text  # tests/lightkeras/report/test_live.py watches
        return
    if words[0] == "replay" and words[2:] != ["--step", "311"]:
        make_parser().parse_args(words[1:])  # tests/lightkeras/replaying/test_replay.py tries the options
        return
    if words[0] == "demo" and not command.marked:
        make_page(words)
        return
    if words[0] == "bench":
        parse_benchmark(*words[1:])  # tests/benchmarks/test_harness.py runs all of them
        return
    if command.marked:
        check_search(words) if words[0] == "tune" else call(*words, "--print_config")
        return
    words = shortened(words)
    if " ".join(words) in done:
        return
    output = io.StringIO()
    redirected = contextlib.redirect_stdout(output) if command.out else contextlib.nullcontext()
    before, sys.stdin = sys.stdin, io.StringIO(command.stdin)
    try:
        with redirected:
            call(*words)
    finally:
        sys.stdin = before
    if command.out:
        Path(command.out).write_text(output.getvalue(), encoding="utf-8")
    done.add(" ".join(words))


def make_page(words: list[str]) -> None:
    """Makes the page of a demo; tests/lightkeras/demo/test_demo.py serves those of all tasks."""
    pages = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli_commands, "serve", lambda page, host, opened: pages.append(page))
        patch.setattr(cli_commands, "import_gradio", lambda: None)
        call(*words, *["--port", "0"])
    assert len(pages) == 1


def shortened(words: list[str]) -> list[str]:
    """The words and, after them, options with which the command takes a moment."""
    verb, name = words[:2]
    if "--help" in words or "--print_config" in words or ":" in name:  # a plain model's are short
        return words
    more = SHORT.get(verb, "")
    if verb == "predict":
        more = PREDICT.get(name, "")
    elif name == "--config":
        if words[2] == "config.yaml":
            more += f" {DATA['text_generation']} {TASK['text_generation']}"
        elif "--trainer.max_epochs" in words:
            more += " --trainer.max_steps 2"
    elif verb in ("replay", "branch"):
        more = "--step 1"
    elif verb == "check":
        more += f" --data.source sample {TASK[name]}" if name in SHIPPED else ""
    elif verb in ("fit", "show", "tune", "find_lr", "find_batch_size"):
        data = DATA[name] if "my_text.txt" not in words else DATA[name].replace("--data.source sample", "")
        more = f"{more} {data} {TASK[name]}"
    return [*words, *more.split()]


def check_search(words: list[str]) -> None:
    """Makes the Tuner of a search that was run whole, so that its arguments and space are checked; searches nothing."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Checked):
        patch.setattr(Tuner, "search", raise_checked)
        call(*words, *["--data.source", "sample"])


def raise_checked(*arguments) -> None:
    raise Checked


def parse_benchmark(name: str, *options: str) -> None:
    """Raises SystemExit for an option that the benchmark does not have."""
    from benchmarks import command

    module = importlib.import_module(benchmarks()[name].rpartition(".")[0])
    command.parser(name, "", getattr(module, "DEFAULTS", {}), 1).parse_args(options)


def run_module(words: list[str], command: Command, done: set[str]) -> None:
    assert words[0] == "-m", command.text
    module, options = words[1], [*words[2:], *MODULES.get(words[1], "").split()]
    if command.marked:
        assert "main" in vars(importlib.import_module(module))
    elif not any(f"{one} ".startswith(f"{' '.join(words)} ") for one in done):  # a sentence says less than the block
        importlib.import_module(module).main(options)
        done.add(" ".join(words))


def check_pytest(words: list[str], command: Command, done: set[str]) -> None:
    """The paths and the marker exist; the command runs the tests that this is one of."""
    for word in words:
        if word.startswith("tests"):
            assert (ROOT / word).exists(), command.text
    if "-m" in words:
        marker = words[words.index("-m") + 1]
        assert f"    {marker}:" in (ROOT / "setup.cfg").read_text(), f"no marker {marker}"


def check_pip(words: list[str], command: Command, done: set[str]) -> None:
    """The extras exist; `.ci/run` installs by the page."""
    assert words[0] == "install", command.text
    extras = re.findall(r"\[(\w+)\]", words[-1])
    known = (ROOT / "setup.cfg").read_text().split("[options.extras_require]")[1].split("\n[")[0]
    assert all(f"\n{extra} =" in known for extra in extras), command.text
