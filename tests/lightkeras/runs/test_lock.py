"""One process trains in a run's folder at a time."""

import contextlib
import os
import re
import signal
import subprocess
import sys

import pytest
from helpers.toys import Classifier, PointsData, quiet

import lightkeras as lk
from lightkeras.runs import lock

HOLD = """
import sys
from pathlib import Path
from lightkeras.runs import lock
with lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held_elsewhere(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_second_says_who_trains_there(root):
    trainer = quiet(root, max_steps=2)
    trainer.fit(Classifier(), PointsData())
    assert not (trainer.run_dir / lock.LOCK).exists()
    with held_elsewhere(trainer.run_dir) as process:
        for ckpt_path in ("auto", "last", str(trainer.run_dir)):
            with pytest.raises(
                BlockingIOError,
                match=rf"to be free. Received: process {process.pid} on {re.escape(os.uname().nodename)} .* since 20",
            ):
                quiet(root, max_steps=4).fit(Classifier(), PointsData(), ckpt_path=ckpt_path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (trainer.run_dir / lock.LOCK).exists()
        task = Classifier()
        quiet(root, max_steps=4).fit(task, PointsData(), ckpt_path="auto")
    assert task.global_step == 4 and not (trainer.run_dir / lock.LOCK).exists()


def test_auto_waits_for_no_run_that_has_not_saved_yet(root, tmp_path):
    folder = tmp_path / "runs" / "classifier" / "2026-01-01_00-00-00"
    folder.mkdir(parents=True)
    with held_elsewhere(folder), pytest.raises(BlockingIOError, match="to be free"):
        quiet(root, max_steps=1).fit(Classifier(), PointsData(), ckpt_path="auto")
    quiet(root, max_steps=1).fit(Classifier(), PointsData(), ckpt_path="auto")


def test_an_error_frees_the_folder(root):
    class Fails(lk.Callback):
        def on_train_begin(self, logs=None):
            raise RuntimeError("stop")

    trainer = quiet(root, max_steps=2, callbacks=[Fails()])
    with pytest.raises(RuntimeError, match="stop"):
        trainer.fit(Classifier(), PointsData())
    with lock.hold(trainer.run_dir):
        pass
