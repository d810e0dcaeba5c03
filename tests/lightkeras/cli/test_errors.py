"""Errors of lightkeras are one line; errors of the user's own code show where they come from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightkeras.cli.main import main
from lightkeras.utils.checks import ArgumentError, LightkerasError, lightkeras_error, require, require_choice

QUICK = ("--trainer.enable_model_summary", "false", "--trainer.run_eagerly", "true", "--trainer.logger", "false")
MODULE = """
from helpers import toys
import lightkeras as lk

class Task(toys.Classifier):
    data_module = toys.PointsData

    def train_step(self, batch):
        sums = super().train_step(batch)
        if not self._building and self.global_step == 6:
            {step}
        return sums

class Data(toys.PointsData):
    def setup(self, stage):
        {data}

class Mine(lk.Callback):
    def on_train_batch_end(self, batch, logs=None):
        {callback}
"""
WHERE = {
    "step": ("TypeError", "raise TypeError('mine')"),
    "data": ("OSError", "raise OSError('mine')"),
    "callback": ("KeyError", "{}['mine']"),
}


@pytest.fixture
def user_module(tmp_path, monkeypatch, request):
    """Writes a module of the user's with an error in one place; returns its name."""
    monkeypatch.chdir(tmp_path)
    name = f"user_{request.node.callspec.id}"
    places = {place: statement if place == request.param else "pass" for place, (_, statement) in WHERE.items()}
    Path(f"{name}.py").write_text(MODULE.format(**places))
    return name


@pytest.mark.parametrize("user_module", WHERE, indirect=True)
def test_an_error_of_the_users_own_code_is_raised(user_module, request, capsys):
    kind = {"TypeError": TypeError, "OSError": OSError, "KeyError": KeyError}[WHERE[request.node.callspec.id][0]]
    Path("config.yaml").write_text(f"data: {{class_path: {user_module}.Data}}\n")
    given = ("--config", "config.yaml", f"--trainer.callbacks+={user_module}.Mine", "--trainer.max_epochs", "2")
    with pytest.raises(kind, match="mine") as raised:
        main(["fit", f"{user_module}.Task", *given, *QUICK])
    assert f"{user_module}.py" in str(raised.traceback[-1].path) and capsys.readouterr().err == ""
    assert not isinstance(raised.value, LightkerasError)


def test_the_last_line_says_how_the_run_is_resumed(tmp_path):
    Path(tmp_path, "mine.py").write_text(MODULE.format(step="raise TypeError('mine')", data="pass", callback="pass"))
    done = subprocess.run(
        [sys.executable, "-m", "lightkeras", "fit", "mine.Task", *QUICK, "--trainer.max_epochs", "3"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    *_, traceback, error, resume = done.stderr.splitlines()
    assert done.returncode == 1 and "raise TypeError('mine')" in traceback and error == "TypeError: mine"
    assert 'mine.py", line 11, in train_step' in done.stderr
    assert resume.startswith("The run is saved up to update 5. Resume it with ckpt_path='runs/task/")


@pytest.mark.parametrize(
    ("text", "error"), [("import nothing_there", ModuleNotFoundError), ("None.x", AttributeError), ("1 +", SyntaxError)]
)
def test_an_error_as_the_users_module_is_imported_is_raised(tmp_path, monkeypatch, text, error):
    monkeypatch.chdir(tmp_path)
    name = f"user_{error.__name__}"
    Path(f"{name}.py").write_text(text + "\n")
    with pytest.raises(error) as raised:
        main(["fit", f"{name}.Task"])
    assert not isinstance(raised.value, LightkerasError)


def test_require_raises_errors_of_ours():
    with pytest.raises(ArgumentError, match=r"Expected `x` to be 3\. Received: x=4") as raised:
        require(False, "x", "3", 4)
    assert isinstance(raised.value, ValueError)
    with pytest.raises(ArgumentError):
        require_choice("x", 4, [3])
    for kind in (TypeError, FileExistsError):
        with pytest.raises(kind) as raised:
            require(False, "x", "3", 4, kind)
        assert isinstance(raised.value, LightkerasError) and type(raised.value).__name__ == kind.__name__
    assert lightkeras_error(ArgumentError) is ArgumentError and lightkeras_error(OSError) is lightkeras_error(OSError)
