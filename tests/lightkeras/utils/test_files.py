"""Atomic writes, locks and checksums."""

import subprocess
import sys
import threading

import pytest

from lightkeras.utils.files import locked, read_json, sha256, write_atomically, write_json, write_text
from lightkeras.utils.paths import as_path

HOLD = "import sys; from pathlib import Path; from lightkeras.utils import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


@pytest.mark.parametrize("remote", [False, True])
def test_a_file_is_replaced_as_a_whole(tmp_path, remote):
    folder = as_path("ram://test-files") if remote else tmp_path
    folder.mkdir(exist_ok=True)
    path = folder / "a.txt"
    with write_atomically(path) as partial:
        partial.write_text("old")
        assert partial.name.endswith(".a.txt") and partial.parent == folder and not path.exists()
    with pytest.raises(RuntimeError, match="half"), write_atomically(path) as partial:
        partial.write_text("ne")
        raise RuntimeError("half")
    assert path.read_text() == "old" and [file.name for file in folder.iterdir()] == ["a.txt"]
    with write_atomically(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new" and [file.name for file in folder.iterdir()] == ["a.txt"]


def test_json_comes_back_to_the_bit(tmp_path):
    values = {"é": [0.1 + 0.2, 1e-300, None, True]}
    write_json(tmp_path / "a.json", values)
    assert read_json(tmp_path / "a.json") == values and read_json(tmp_path / "b.json") is None


def test_sha256(tmp_path):
    write_text(tmp_path / "a", "abc")  # FIPS 180-2, B.1
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path, capsys):
    path = tmp_path / "new" / ".lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match=r"Expected .*new not to be in use. Received: .*holds .*\.lock"):
            with locked(path, wait=False):
                raise AssertionError
        killer = threading.Timer(0.2, process.kill)
        killer.start()
        with locked(path, message="waiting"):
            assert process.wait() == -9
    assert capsys.readouterr().out == "waiting\n"
    with locked(path, wait=False):
        pass
