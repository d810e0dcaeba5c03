"""Arguments of the Trainer: types of NumPy, words of Lightning, devices; and configuration files."""

import datetime
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers.toys import quiet

import lightkeras as lk
from lightkeras.cli import parsing
from lightkeras.utils.checks import LightkerasError, UsageError


def test_numpys_scalars_are_pythons():
    trainer = quiet(max_epochs=np.int64(3), run_eagerly=np.bool_(True), gradient_clip_val=np.float32(0.5))
    assert type(trainer.max_epochs) is int and trainer.run_eagerly is True and type(trainer.gradient_clip_val) is float


def test_lightnings_words_for_precision():
    words = {32: "32", 16: "16-mixed", "16": "16-mixed", "bf16": "bf16-mixed", "32": "32", "bf16-mixed": "bf16-mixed"}
    assert {word: quiet(precision=word).precision for word in words} == words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"accelerator": "tpu"}, '`accelerator` to be one of "auto", "cpu", "gpu"'),
        ({"accelerator": "mps"}, '`accelerator` to be one of "auto", "cpu", "gpu"'),
        ({"strategy": "ddp"}, "`strategy` to be one of 'auto', 'mirrored'"),
        ({"max_epochs": -1}, "`max_epochs` to be a positive int, or None where another limit"),
        ({"max_steps": -1}, "`max_steps` to be a positive int, or None where another limit"),
        ({"max_epochs": 0}, "`max_epochs` to be a positive int"),
        ({"max_epochs": "10"}, "`max_epochs` to be a positive int"),
        ({"devices": -1}, '`devices` to be a positive int, a list of distinct indices or "auto"'),
        ({"gradient_clip_val": float("inf")}, "`gradient_clip_val` to be a finite number"),
        ({"gradient_clip_val": 0}, "`gradient_clip_val` to be a number above 0"),
        ({"seed": 2**32}, "`seed` to be an int below"),
        ({"jit_compile": 1}, "`jit_compile` to be True, False"),
        ({"precision": 64}, "`precision` to be one of '32'"),
        ({"max_time": {"hours": "x"}}, "`max_time` to hold numbers"),
        ({"max_time": {"days": 1e99}}, "`max_time` to hold numbers"),
        ({"max_time": 60}, '`max_time` to be "DD:HH:MM:SS"'),
        ({"max_time": datetime.timedelta(seconds=-1)}, "`max_time` to be longer than 0 seconds"),
    ],
)
def test_refused_when_the_trainer_is_made(arguments, message):
    with pytest.raises(LightkerasError, match=re.escape(message)):
        quiet(**arguments)


PROGRAM = """
import lightkeras as lk
{before}
from helpers.toys import Classifier, PointsData, quiet
task = Classifier()
quiet(accelerator="cpu", devices=2, max_steps=2).fit(task, PointsData())
quiet(accelerator="cpu", devices=2, max_steps=1).fit(Classifier(), PointsData())
print("replicas", task.distribute_strategy.num_replicas_in_sync)
"""


def run_program(before: str) -> subprocess.CompletedProcess:
    program = PROGRAM.format(before=before)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_replicas_on_logical_cpus_and_what_is_said_if_tensorflow_has_started():
    done = run_program("")
    assert done.stdout.splitlines()[-1] == "replicas 2" and done.stdout.count("for trying replicas") == 1
    late = run_program("import tensorflow as tf; tf.constant(1)")
    assert 'Expected Trainer(accelerator="cpu", devices=2) to be made before TensorFlow starts' in late.stderr


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr("tensorflow.config.get_visible_devices", lambda kind: [])
    with pytest.raises(ValueError, match='`accelerator` to be "auto" or "cpu" where TensorFlow sees no GPU'):
        lk.Trainer(accelerator="gpu")


def test_later_configuration_files_win_and_a_key_written_twice_is_refused(tmp_path):
    texts = {"a": "trainer: {max_epochs: 1, seed: 7}\n", "b": "trainer:\n  max_epochs: 2\n"}
    files = {name: tmp_path / f"{name}.yaml" for name in (*texts, "twice")}
    for name, text in texts.items():
        files[name].write_text(text)
    files["twice"].write_text("trainer:\n  seed: 1\n  max_epochs: 1\n  seed: 2\n")
    given = ["helpers.toys.Classifier", "--config", str(files["a"]), "--config", str(files["b"])]
    assert parsing.read_command("fit", given).values["trainer"] == {"max_epochs": 2, "seed": 7}
    with pytest.raises(UsageError, match="'seed' stands in line 2 and again in line 4"):
        parsing.read_command("fit", ["helpers.toys.Classifier", "--config", str(files["twice"])])
