"""`pytest -m smoke`: every module imports, and a small task trains, resumes and is loaded. See `conftest.SMOKE`."""

import importlib
import pkgutil
from pathlib import Path

import pytest
from helpers.source_tree import SCRIPT
from helpers.toys import Classifier, PointsData, quiet

import benchmarks
import lightkeras as lk
import tasks

EXTRAS = ("torch", "lightning")


def modules(package) -> list[str]:
    """The names of all modules; a notebook's script is none."""
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [one.name for one in found if not is_notebook(one)]


def is_notebook(found: pkgutil.ModuleInfo) -> bool:
    source = Path(found.module_finder.path, f"{found.name.rpartition('.')[2]}.py")
    return source.exists() and source.read_text(encoding="utf-8").startswith(SCRIPT)


@pytest.mark.parametrize("name", [*modules(lk), *modules(tasks), *modules(benchmarks)])
def test_every_module_imports_and_says_what_it_is(name):
    if name.endswith("__main__"):
        pytest.skip("runs the command line")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        pytest.skip(f"needs {error.name}, of the extra `bench`")
    assert module.__doc__


def test_a_small_task_trains_resumes_and_is_loaded(root):
    whole = quiet(root, max_epochs=2, run_eagerly=True)
    whole.fit(task := Classifier(), data := PointsData())
    first = quiet(f"{root}/cut", max_epochs=1, run_eagerly=True)
    first.fit(Classifier(), PointsData())
    resumed = quiet(f"{root}/cut", max_epochs=2, run_eagerly=True)
    resumed.fit(Classifier(), PointsData(), ckpt_path="last")
    assert resumed.history.history["loss"] == whole.history.history["loss"]
    loaded = Classifier.load_from_checkpoint(whole.run_dir)
    trainer = quiet(root, run_eagerly=True)
    assert trainer.validate(loaded, data) == pytest.approx(trainer.validate(task, data))
