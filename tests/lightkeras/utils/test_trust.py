"""What is read back runs no code that its reader did not choose: every kind of file is forged here."""

import contextlib
import hashlib
import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.toys import Classifier, PointsData, quiet

import lightkeras as lk
from lightkeras.checkpoint import latest_checkpoint
from lightkeras.cli import main as cli
from lightkeras.configuration import Configuration
from lightkeras.utils.trust import TrustError, import_class, trusting
from lightkeras.utils.values import from_written

TRAP = """
from pathlib import Path
Path({path!r}).touch()
import lightkeras as lk
class Task(lk.TaskModule): pass
class Data(lk.DataModule): pass
class Stop(lk.callbacks.Callback): pass
"""


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module that leaves a file when it is imported: returns (the module's name, the file)."""
    name, touched = f"trap_{tmp_path.name}", tmp_path / "touched"
    (tmp_path / f"{name}.py").write_text(TRAP.format(path=str(touched)))
    monkeypatch.syspath_prepend(tmp_path)
    yield name, touched
    sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    trainer = quiet(str(tmp_path_factory.mktemp("trust")), max_steps=1)
    trainer.fit(Classifier(), PointsData())
    return Path(trainer.run_dir)


def forge(run: Path, to: Path, change) -> Path:
    """Copies a run and changes the state in its manifest, with a right checksum."""
    shutil.copytree(run, to)
    file = Path(latest_checkpoint(to / "checkpoints")) / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    del manifest["sha256"]
    file.write_text(json.dumps(manifest | {"sha256": hashlib.sha256(json.dumps(manifest).encode()).hexdigest()}))
    return to


POPEN = {"class_path": "subprocess.Popen", "init_args": {"args": ["sh", "-c", "exit"]}}
NOT_CALLED = [POPEN, {"class_path": "pathlib.Path", "init_args": {}}, {"class_path": "builtins.dict", "init_args": {}}]


@pytest.mark.parametrize("part", ["task", "data"])
@pytest.mark.parametrize("described", NOT_CALLED, ids=lambda described: described["class_path"])
def test_a_manifest_makes_no_object_of_another_base(run, tmp_path, monkeypatch, part, described):
    called = []
    monkeypatch.setattr(subprocess.Popen, "__init__", lambda self, *args, **kwargs: called.append(args))
    forged = forge(run, tmp_path / "run", lambda manifest: manifest["state"].update({part: described}))
    with pytest.raises(lk.checkpoint.CheckpointError, match=described["class_path"]):
        lk.TaskModule.load_from_checkpoint(forged)
    assert not called


@pytest.mark.parametrize("part", ["task", "data"])
def test_a_manifest_imports_no_module(run, tmp_path, trap, part):
    name, touched = trap
    described = {"class_path": f"{name}.{part.capitalize()}", "init_args": {}}
    forged = forge(run, tmp_path / "run", lambda manifest: manifest["state"].update({part: described}))
    with pytest.raises(lk.checkpoint.CheckpointError, match=rf'Received: .*trust=\["{name}"\]|trust=\[.{name}.\]'):
        lk.TaskModule.load_from_checkpoint(forged)
    assert not touched.exists()


@pytest.mark.parametrize(
    "value",
    [
        {"$enum": ["{name}.Task", "A", None]},
        {"$dataclass": ["{name}.Task", {}]},
        {"$keras": {"module": "{name}", "class_name": "Task", "config": {}, "registered_name": "Task"}},
        {"$tuple": [{"$dataclass": ["{name}.Task", {}]}]},
        {"a": [{"$enum": ["{name}.Task", "A", None]}]},
    ],
)
def test_an_argument_imports_no_module(run, tmp_path, trap, value):
    name, touched = trap
    value = json.loads(json.dumps(value).replace("{name}", name))
    with pytest.raises(TrustError, match=name):
        from_written(value)
    forged = forge(run, tmp_path / "run", lambda m: m["state"]["data"]["init_args"].update(size=value))
    with pytest.raises(lk.checkpoint.CheckpointError, match=name):
        Classifier.load_from_checkpoint(forged)
    assert not touched.exists()


@pytest.mark.parametrize(
    "value",
    [
        {"$enum": ["subprocess.Popen", "A", None]},
        {"$dataclass": ["subprocess.Popen", {"args": "true"}]},
        {
            "$keras": {
                "module": "subprocess",
                "class_name": "Popen",
                "config": {"args": "true"},
                "registered_name": None,
            }
        },
        {"$keras": {"module": "builtins", "class_name": "function", "config": "os.system", "registered_name": "f"}},
        {"$python": ["os.system", "true"]},
        {"$tuple": 3},
        {"$numpy": ["|O", 1]},
        {"$numpy": ["<f4"]},
    ],
)
def test_an_argument_makes_no_object_of_another_base(monkeypatch, value):
    called = []
    monkeypatch.setattr(subprocess.Popen, "__init__", lambda self, *args, **kwargs: called.append(args))
    with pytest.raises((TrustError, ValueError), match="Expected"):
        from_written(value)
    assert not called


@pytest.mark.parametrize("change", [{"task": "x"}, {"data": {"class_path": 3}}, {"seed": None}, {"spec": []}])
def test_a_state_that_is_of_no_run_is_rejected(run, tmp_path, change):
    forged = forge(run, tmp_path / "run", lambda manifest: manifest["state"].update(change))
    for use in (
        lambda: Classifier.load_from_checkpoint(forged),
        lambda: quiet(str(tmp_path)).validate(Classifier(), PointsData(), str(forged)),
        lambda: quiet(str(tmp_path), max_steps=2).fit(Classifier(), PointsData(), str(forged)),
    ):
        with pytest.raises(lk.CheckpointError, match=f"to be a checkpoint of a run.*without {next(iter(change))}"):
            use()


def test_trusted_packages_and_given_classes_are_imported(trap):
    name, touched = trap
    with pytest.raises(TrustError, match=f"{name}.Task to be of a module that is imported already"):
        import_class(f"{name}.Task", lk.TaskModule)
    assert not touched.exists()
    assert import_class(f"{name}.Task", lk.TaskModule, [name]).__name__ == "Task" and touched.exists()
    assert import_class(f"{name}.Data", lk.DataModule).__name__ == "Data"  # imported by now
    with pytest.raises(TrustError, match="Data to be a TaskModule"):
        import_class(f"{name}.Data", lk.TaskModule)
    with pytest.raises(ValueError, match=r"Expected `trust` to be a list of packages.* Received: trust='x'"):
        trusting("x")


def write_config(run: Path, folder: Path, change) -> str:
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    return str(file)


CONFIGS = {
    "task": lambda name: lambda config: config.update(task={"class_path": f"{name}.Task", "init_args": {}}),
    "data": lambda name: lambda config: config.update(data={"class_path": f"{name}.Data", "init_args": {}}),
    "callback": lambda name: lambda config: config["trainer"].update(callbacks=[{"class_path": f"{name}.Stop"}]),
    "callback by name": lambda name: lambda config: config["trainer"].update(callbacks=[f"{name}.Stop"]),
    "argument": lambda name: (
        lambda config: config["data"]["init_args"].update(size={"$enum": [f"{name}.Task", "A", None]})
    ),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_configuration_imports_no_module(run, tmp_path, trap, capsys, kind):
    name, touched = trap
    config = write_config(run, tmp_path, CONFIGS[kind](name))
    with contextlib.suppress(SystemExit):
        assert cli.main(["fit", "--config", config]) == 1
    assert f"--trust {name}" in capsys.readouterr().err and not touched.exists()


def test_a_search_imports_no_module(tmp_path, trap):
    name, touched = trap
    (tmp_path / "search.yaml").write_text(
        yaml.safe_dump(
            {"config": {"task": {"class_path": f"{name}.Task"}, "data": {"class_path": f"{name}.Data"}, "trainer": {}}}
        )
    )
    with pytest.raises(TrustError, match=name):
        lk.Tuner.load(tmp_path)
    with pytest.raises(TrustError, match=name):
        Configuration.read(yaml.safe_load((tmp_path / "search.yaml").read_text())["config"])
    assert not touched.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [touch x]", "!!python/name:os.system"])
def test_yaml_tags_are_an_error(tmp_path, capsys, monkeypatch, tag):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(f"task: {tag}\n")
    assert cli.main(["fit", "text_generation", "--config", "c.yaml"]) == 2
    assert "Expected --config to be a YAML file" in capsys.readouterr().err and not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["../other/shard.npz", "/etc/passwd", "a/b.npz", "", ".."])
def test_a_shard_stays_in_the_checkpoint(run, tmp_path, name):
    def change(manifest):
        manifest["shards"][0]["name"] = name

    with pytest.raises(lk.checkpoint.CheckpointError, match=r"Expected .* to name files in the checkpoint's folder"):
        Classifier.load_from_checkpoint(forge(run, tmp_path / "run", change))


def test_an_array_header_asks_for_no_more_than_the_file_holds(run, tmp_path):
    forged = forge(run, tmp_path / "run", lambda manifest: None)
    checkpoint = Path(latest_checkpoint(forged / "checkpoints"))
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    shard = manifest["shards"][0]
    data = lies_about_its_shape((checkpoint / shard["name"]).read_bytes())
    (checkpoint / shard["name"]).write_bytes(data)
    shard.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    del manifest["sha256"]
    checksum = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    (checkpoint / "manifest.json").write_text(json.dumps(manifest | {"sha256": checksum}))
    with pytest.raises(lk.checkpoint.CheckpointError, match=r"Expected .* to hold plain arrays\. Received: .* bytes"):
        Classifier.load_from_checkpoint(forged)


def lies_about_its_shape(data: bytes) -> bytes:
    """An npz whose first array claims 2**50 elements."""
    source, target = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for index, name in enumerate(source.namelist()):
            content = source.read(name)
            if index == 0:
                file = io.BytesIO()
                np.lib.format.write_array_header_2_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2**50,)})
                content = file.getvalue()
            archive.writestr(name, content)
    return target.getvalue()


# ---- classes of a script, of a notebook or of a function


def test_a_class_of_a_function_is_found_again(tmp_path):
    class Local(Classifier):
        pass

    class LocalData(PointsData):
        pass

    trainer = quiet(str(tmp_path), max_steps=1)
    trainer.fit(Local(), LocalData())
    assert type(Local.load_from_checkpoint(trainer.run_dir)) is Local
    assert type(lk.TaskModule.load_from_checkpoint(trainer.run_dir)) is Local


SCRIPT = """
import sys
import lightkeras as lk
from helpers.toys import Classifier, PointsData, quiet

class Data(PointsData):
    pass

class Mine(Classifier):
    data_module = Data

if __name__ == "__main__":
    trainer = quiet(sys.argv[1], max_steps=1)
    trainer.fit(Mine(), Data())
"""


def test_a_class_of_a_script_is_the_one_that_is_asked_for(tmp_path, monkeypatch):
    script = tmp_path / "a_script_of_mine.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script, tmp_path / "runs"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(tmp_path)
    from a_script_of_mine import Data, Mine

    (run,) = (tmp_path / "runs" / "mine").iterdir()
    task = Mine.load_from_checkpoint(run)
    assert type(task) is Mine
    assert quiet(str(tmp_path)).validate(Mine(), Data(), str(run)) == quiet(str(tmp_path)).validate(task, Data())
    with pytest.raises(lk.checkpoint.CheckpointError, match="__main__"):
        lk.TaskModule.load_from_checkpoint(run)
