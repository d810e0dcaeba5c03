"""Checkpoint files: what is saved comes back, and nothing that happens to a disk goes unnoticed."""

import contextlib
import errno
import hashlib
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from lightkeras import checkpoint as ck
from lightkeras.checkpoint import (
    CheckpointError,
    archive,
    checkpoints,
    latest_checkpoint,
    load_checkpoint,
    open_checkpoint,
    save_checkpoint,
    storage,
)
from lightkeras.checkpoint.async_writer import CheckpointWriter

# A child process loads this one module only: `import lightkeras` may import TensorFlow, which takes seconds.
CHILD = """
import sys, types
package = types.ModuleType("lightkeras")
package.__path__ = [sys.argv[1]]
sys.modules["lightkeras"] = package
import numpy as np
from lightkeras.checkpoint import *
"""


def run_child(code, *arguments):
    """Starts a Python process that runs `code` with `lightkeras.checkpoint` imported."""
    package = str(Path(ck.__file__).parent.parent)
    command = [sys.executable, "-c", CHILD + code, package, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def save(folder, step, value=None, **kwargs):
    value = step if value is None else value
    return save_checkpoint(folder, step, {"w": np.full(100, value, "float32")}, {"value": value}, **kwargs)


def steps(folder):
    return [int(Path(path).name.removeprefix("step_")) for path in checkpoints(folder)]


def shard(path, number=0):
    return Path(path) / f"arrays-{number:05d}.npz"


def manifest(path):
    return json.loads((Path(path) / "manifest.json").read_text())


def write_manifest(path, content):
    """Writes a manifest with a right checksum: what a forger would do."""
    content.pop("sha256", None)
    content["sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    (Path(path) / "manifest.json").write_text(json.dumps(content))


# ---------------------------------------------------------------------------------------------- round trip

ARRAYS = {
    "float32": np.arange(6, dtype="float32").reshape(2, 3),
    "float64": np.array([1 / 3, np.nan, -np.inf, -0.0]),
    "float16": np.array([1.5, 65504], "float16"),
    "int64": np.array([-(2**63), 2**63 - 1]),
    "uint8": np.arange(256, dtype="uint8"),
    "bool": np.array([True, False]),
    "complex64": np.array([1 + 2j], "complex64"),
    "big endian": np.array([1, 2], ">i4"),
    "text": np.array(["añil", "青"]),
    "0-d": np.array(7, "int32"),
    "scalar": np.float32(0.1),
    "empty": np.zeros((0, 5), "float32"),
    "column-major": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(10)[::3],
    "bfloat16": np.array([[1, 2.5], [-3, np.inf]], ml_dtypes.bfloat16),
    "bfloat16 0-d": np.array(2.5, ml_dtypes.bfloat16),
    "bfloat16 strided": np.arange(12).reshape(3, 4).astype(ml_dtypes.bfloat16).T[1:, ::2],
    "bfloat16 empty": np.zeros((3, 0), ml_dtypes.bfloat16),
    "float8": np.array([0.5, -2], ml_dtypes.float8_e4m3fn),
    "float8 f": np.array([0.5, -2], ml_dtypes.float8_e5m2),
    "int4": np.array([-8, 7], ml_dtypes.int4),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_array_comes_back_bit_for_bit(tmp_path, name):
    loaded = load_checkpoint(save_checkpoint(tmp_path, 1, {name: ARRAYS[name]}, {})).arrays[name]
    assert (loaded.dtype, loaded.shape) == (ARRAYS[name].dtype, ARRAYS[name].shape)
    assert loaded.tobytes() == ARRAYS[name].tobytes()


def test_any_name_comes_back(tmp_path):
    names = [
        "",
        "/",
        "..",
        "../../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "ключ 青 🎈",
        "a\0b",
        "file",
        "\udc80",
        "x" * 999,
    ]
    arrays = {name: np.array(index) for index, name in enumerate(names)}
    loaded = load_checkpoint(save_checkpoint(tmp_path, 1, arrays, {})).arrays
    assert list(loaded) == names
    assert [int(array) for array in loaded.values()] == list(range(len(names)))
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["arrays-00000.npz", "manifest.json"]


def test_state_comes_back(tmp_path):
    state = {
        "a": [1, 2.5, "ü", None, True, {"b": []}],
        "rng": 2**127 + 1,
        "inf": [float("inf"), -float("inf")],
    }
    state |= {"third": 1 / 3, "\udc80": "\udc80", "nan": float("nan")}
    path = save_checkpoint(tmp_path, 7, {}, state)
    loaded = load_checkpoint(path)
    assert (loaded.path, loaded.step, loaded.arrays) == (path, 7, {})
    assert np.isnan(loaded.state.pop("nan")) and np.isnan(state.pop("nan"))
    assert loaded.state == state


def test_numpy_scalars_become_python_numbers_and_tuples_lists(tmp_path):
    state = {
        "i": np.int64(3),
        "f": np.float32(0.5),
        "b": np.bool_(True),
        "h": ml_dtypes.bfloat16(2),
        "t": (1, 2),
    }
    loaded = open_checkpoint(save_checkpoint(tmp_path, np.int64(1), {}, state)).state
    assert loaded == {"i": 3, "f": 0.5, "b": True, "h": 2.0, "t": [1, 2]}
    assert type(loaded["i"]) is int and type(loaded["b"]) is bool and type(loaded["h"]) is float


def test_arrays_are_cut_into_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "SHARD_BYTES", 100)
    sizes = {"a": 60, "b": 40, "c": 0, "d": 1, "large": 250, "e": 0, "f": 100}
    arrays = {name: np.full(size, ord(name[0]), "uint8") for name, size in sizes.items()}
    path = save_checkpoint(tmp_path, 1, arrays, {})
    listed = [[array["name"] for array in entry["arrays"]] for entry in manifest(path)["shards"]]
    assert listed == [["a", "b", "c"], ["d"], ["large"], ["e", "f"]]
    loaded = load_checkpoint(path).arrays
    assert list(loaded) == list(arrays)
    assert all(np.array_equal(loaded[name], arrays[name]) for name in arrays)


def test_same_content_gives_the_same_bytes(tmp_path):
    first, second = (save(tmp_path / name, 3) for name in "ab")
    assert shard(first).read_bytes() == shard(second).read_bytes()


def test_shards_are_plain_npz_files(tmp_path):
    with np.load(shard(save(tmp_path, 3)), allow_pickle=False) as archive:
        assert archive["00000"].tolist() == [3] * 100


def test_read_state_reads_no_arrays(tmp_path):
    path = save(tmp_path, 3)
    shard(path).unlink()
    assert open_checkpoint(path).state == {"value": 3}


def test_paths_are_relative_if_the_folder_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert save("run", 1) == "run/step_000000001"
    assert checkpoints(Path("run")) == ["run/step_000000001"]
    assert load_checkpoint("run/step_000000001/").state == {"value": 1}
    assert save(".", 1) == "./step_000000001"


# --------------------------------------------------------------------------------------- listing, keeping


def test_no_folder_and_an_empty_one_have_no_checkpoints(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        assert checkpoints(folder) == [] and latest_checkpoint(folder) is None
        with pytest.raises(CheckpointError, match=r"Expected a readable checkpoint in .* Received: none"):
            ck.fall_back(str(folder / "step_000000001"))


def test_checkpoints_are_sorted_by_step(tmp_path):
    paths = {step: save(tmp_path, step) for step in (12, 0, 10**9, 999_999_999, 5)}
    (tmp_path / "notes.txt").touch()
    (tmp_path / "step_7").mkdir()
    (tmp_path / "step_000000008").mkdir()  # No manifest.
    assert checkpoints(tmp_path) == [paths[step] for step in (0, 5, 12, 999_999_999, 10**9)]
    assert latest_checkpoint(tmp_path) == paths[10**9]
    assert load_checkpoint(latest_checkpoint(tmp_path)).step == 10**9


def test_keep_leaves_the_newest(tmp_path):
    for step in range(1, 6):
        save(tmp_path, step, keep=2)
    assert steps(tmp_path) == [4, 5]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_000000004", "step_000000005"]
    save(tmp_path, 6)
    assert steps(tmp_path) == [4, 5, 6]


def test_protected_checkpoints_stay(tmp_path):
    best = save(tmp_path, 1)
    for step in range(2, 6):
        save(tmp_path, step, keep=2, protect=[best, "elsewhere/step_000000099"])
    assert steps(tmp_path) == [1, 4, 5]
    save(tmp_path, 6, keep=2)
    assert steps(tmp_path) == [5, 6]


def test_the_one_just_written_stays_even_if_later_steps_are_there(tmp_path):
    save(tmp_path, 8), save(tmp_path, 9)
    save(tmp_path, 3, keep=1)
    assert steps(tmp_path) == [3, 9]


def test_save_over_the_same_step(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "SHARD_BYTES", 400)
    first = save_checkpoint(tmp_path, 4, {"a": np.zeros(100, "f4"), "b": np.ones(100, "f4")}, {"run": 1})
    assert save(tmp_path, 4, value=2) == first
    loaded = load_checkpoint(first)
    assert loaded.state == {"value": 2} and list(loaded.arrays) == ["w"]
    assert len(list(Path(first).iterdir())) == 2 and len(list(tmp_path.iterdir())) == 1


# ---------------------------------------------------------------------------------------- refused arguments


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"a": {"b": [0, object()]}},
            r"Expected `state\['a'\]\['b'\]\[1\]` to be a JSON value .* Received: .*object",
        ),
        ({"a": {3: 1}}, r"Expected `state\['a'\]` to be a dict with str keys. Received: state\['a'\]=3"),
        ({"a": np.zeros(2)}, r"Expected `state\['a'\]` to be a JSON value"),
        ({"a": b"x"}, r"Expected `state\['a'\]` to be a JSON value"),
        ({"a": {1, 2}}, r"Expected `state\['a'\]` to be a JSON value"),
        ({"a": np.complex64(1)}, r"Expected `state\['a'\]` to be a JSON value"),
        ({"a": np.datetime64("2020-01-01")}, r"Expected `state\['a'\]` to be a JSON value"),
        ([1], "Expected `state` to be a dict"),
    ],
)
def test_state_that_is_not_json_is_refused_by_place(tmp_path, state, message):
    with pytest.raises(ValueError, match=message):
        save_checkpoint(tmp_path / "run", 1, {}, state)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"a/b": np.array([{}, None])},
            r"Expected `arrays\['a/b'\]` to be an array of numbers.*dtype\('O'\)",
        ),
        ({"s": np.zeros(2, "i4,f4")}, r"Expected `arrays\['s'\]` to be an array of numbers"),
        ({"l": [1, 2]}, r"Expected `arrays\['l'\]` to be a NumPy array. Received: .*list"),
        ({3: np.zeros(2)}, "Expected `arrays` to be a dict with str keys. Received: arrays=3"),
        ([np.zeros(2)], "Expected `arrays` to be a dict"),
    ],
)
def test_arrays_that_npz_would_pickle_or_change_are_refused_by_name(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        save_checkpoint(tmp_path / "run", 1, arrays, {})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"step": -1}, "step"),
        ({"step": 1.5}, "step"),
        ({"keep": 0}, "keep"),
        ({"protect": "step_1"}, "protect"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, kwargs, name):
    with pytest.raises(ValueError, match=f"Expected `{name}`"):
        save_checkpoint(tmp_path, **({"step": 1, "arrays": {}, "state": {}} | kwargs))


# -------------------------------------------------------------------------------------------------- damage


def truncate(path):
    os.truncate(shard(path), shard(path).stat().st_size // 2)


def flip_a_byte(path):
    data = bytearray(shard(path).read_bytes())
    data[len(data) // 2] ^= 1
    shard(path).write_bytes(data)


def remove_shard(path):
    shard(path).unlink()


def halve_manifest(path):
    file = Path(path) / "manifest.json"
    os.truncate(file, file.stat().st_size // 2)


def change_state(path):
    file = Path(path) / "manifest.json"
    file.write_text(file.read_text().replace('"value": 2', '"value": 3'))


def newer_format(path):
    write_manifest(path, manifest(path) | {"format": 2})


def no_object(path):
    (Path(path) / "manifest.json").write_text("[]")


DAMAGE = {
    truncate: r"Expected .*step_000000002/arrays-00000.npz to have size in bytes \d+. Received: \d+",
    flip_a_byte: r"Expected .*step_000000002/arrays-00000.npz to have SHA-256 \w{64}. Received: \w{64}",
    remove_shard: r"Expected .*step_000000002/arrays-00000.npz to hold \d+ bytes of arrays. .*No such file",
    halve_manifest: r"Expected .*step_000000002/manifest.json to be whole JSON. Received: \d+ bytes",
    change_state: r"Expected .*step_000000002/manifest.json to have SHA-256 \w{64}. Received: \w{64}",
    newer_format: r"Expected .*step_000000002/manifest.json to be of checkpoint format 1. Received: 2: a later version",
    no_object: r"Expected .*step_000000002/manifest.json to be of checkpoint format 1. Received: None",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_named_and_the_earlier_checkpoint_offered(tmp_path, damage):
    earlier, damaged, _ = save(tmp_path, 1), save(tmp_path, 2), save(tmp_path, 3)
    damage(damaged)
    with pytest.raises(CheckpointError, match=DAMAGE[damage]) as caught:
        load_checkpoint(damaged)
    assert str(caught.value).endswith(f"\nAn earlier whole checkpoint: {earlier}")


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_fall_back_warns(tmp_path, damage):
    save(tmp_path, 1), damage(save(tmp_path, 2))
    with pytest.warns(UserWarning, match=r"(?s)resumed from .*step_000000001\. .*" + DAMAGE[damage]):
        loaded = ck.fall_back(latest_checkpoint(tmp_path))
    assert loaded.step == 1 and loaded.arrays["w"][0] == 1


def test_fall_back_says_why_for_each_if_none_can_be_read(tmp_path):
    truncate(save(tmp_path, 1)), halve_manifest(save(tmp_path, 2))
    with pytest.raises(CheckpointError, match=r"(?s)step_000000002.*whole JSON.*step_000000001.*size in bytes"):
        ck.fall_back(latest_checkpoint(tmp_path))


def test_only_a_whole_earlier_checkpoint_is_offered(tmp_path):
    whole, damaged, latest = save(tmp_path, 1), save(tmp_path, 2), save(tmp_path, 3)
    flip_a_byte(damaged), truncate(latest)
    with pytest.raises(CheckpointError, match="An earlier whole checkpoint: " + whole):
        load_checkpoint(latest)
    truncate(whole)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(latest)
    assert "An earlier" not in str(caught.value)


def test_a_missing_checkpoint_and_the_folder_above_are_told_apart(tmp_path):
    path = save(tmp_path, 4)
    with pytest.raises(CheckpointError, match=r"(?s)manifest.* No such file.*An earlier whole checkpoint: " + path):
        open_checkpoint(tmp_path / "step_000000005")
    with pytest.raises(CheckpointError, match=f"This folder holds checkpoints, the latest: {path}"):
        load_checkpoint(tmp_path)


def test_nothing_is_ever_unpickled(tmp_path):
    """A forged shard with right checksums, whose unpickling would make a file."""

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    path = save(tmp_path, 1)
    entry = manifest(path)
    for forge in (
        lambda file: np.savez(file, **{"00000": np.array([Bomb()])}),
        lambda f: pickle.dump(Bomb(), f),
    ):
        with open(shard(path), "wb") as file:
            forge(file)
        data = shard(path).read_bytes()
        entry["shards"][0] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        write_manifest(path, entry)
        with pytest.raises(
            CheckpointError,
            match=r"Expected .*npz to hold plain arrays. Received: (a header of object|File is not a zip file)",
        ):
            load_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("field", [{"shape": [99]}, {"dtype": "<f8"}, {"dtype": "bfloat16"}, {"dtype": "finfo"}])
def test_a_manifest_that_contradicts_its_shard_is_refused(tmp_path, field):
    path = save(tmp_path, 1)
    content = manifest(path)
    content["shards"][0]["arrays"][0] |= field
    write_manifest(path, content)
    with pytest.raises(CheckpointError, match=r"arrays-00000.npz"):
        load_checkpoint(path)


# --------------------------------------------------------------------------------- writers that do not finish


def test_left_over_of_a_killed_writer_is_no_checkpoint_and_swept_at_the_next_save(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "step_000000002.partial").mkdir()
    for name in ("manifest.json", "arrays-00000.npz"):
        (tmp_path / "step_000000002.partial" / name).touch()
    (tmp_path / "mine.partial").mkdir()
    assert steps(tmp_path) == [1] and load_checkpoint(latest_checkpoint(tmp_path)).step == 1
    save(tmp_path, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.partial", "step_000000001", "step_000000003"]


@pytest.mark.parametrize(
    ("fails", "same_step"),
    [(fails, same_step) for fails in ("write", "sync", "sync_folder") for same_step in (False, True)]
    + [("rename", False), ("replace", True)],
)
def test_a_full_disk_leaves_the_earlier_checkpoint_whole(tmp_path, monkeypatch, fails, same_step):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    owner = {"write": archive.HashingFile, "sync": storage.LocalFiles, "sync_folder": storage}.get(fails, os)
    earlier = save(tmp_path, 1)
    before = {p: p.read_bytes() for p in Path(earlier).iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(owner, fails, full)
        with pytest.raises(
            CheckpointError, match=r"Could not write .*\(400 bytes of arrays\): .*No space left"
        ) as caught:
            save(tmp_path, 1 if same_step else 2, value=9)
    assert str(caught.value).endswith(f"Checkpoints there are intact, the latest: {earlier}")
    assert list(tmp_path.iterdir()) == [Path(earlier)]
    assert {p: p.read_bytes() for p in Path(earlier).iterdir()} == before
    assert load_checkpoint(latest_checkpoint(tmp_path)).state == {"value": 1}


def test_file_size_limit_of_the_system(tmp_path):
    """The kernel itself refuses the write (EFBIG): in the middle of a shard, or of the last buffer."""
    code = """
import resource
save_checkpoint(sys.argv[2], 1, {"w": np.ones(10)}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for size in (99_900, 2_000_000):
    try:
        save_checkpoint(sys.argv[2], 2, {"w": np.ones(size, "uint8")}, {})
    except CheckpointError as error:
        print(error)
"""
    out, err = run_child(code, tmp_path).communicate(timeout=60)
    assert out.count("File too large. Checkpoints there are intact, the latest: ") == 2, out + err
    assert [p.name for p in tmp_path.iterdir()] == ["step_000000001"]
    assert load_checkpoint(latest_checkpoint(tmp_path)).step == 1


ON_A_SMALL_DISK = """
import os, subprocess
folder, what = sys.argv[2:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=True)
earlier = save_checkpoint(folder, 1, {"w": np.ones(10)}, {})
print("mounted")
if what == "read-only":
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
for size in (255_000, 1_000_000):
    for step in (1, 2):
        try:
            save_checkpoint(folder, step, {"w": np.zeros(size, "uint8")}, {})
        except CheckpointError as error:
            print(error)
print(os.listdir(folder), load_checkpoint(latest_checkpoint(folder)).arrays["w"].sum())
"""


@pytest.mark.parametrize(
    ("what", "reason"), [("full", "No space left on device"), ("read-only", "Read-only file system")]
)
def test_a_real_disk_that_refuses(tmp_path, what, reason):
    """A file system of 256 kB in a mount namespace of its own, which goes with the process; also root is refused."""
    mounts = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if not shutil.which("unshare") or subprocess.run(mounts, capture_output=True, check=False).returncode:
        pytest.skip("this system lets no user have mounts of its own (unshare -rm)")
    package = str(Path(ck.__file__).parent.parent)
    command = ["unshare", "-rm", sys.executable, "-c", CHILD + ON_A_SMALL_DISK, package, str(tmp_path), what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and done.stdout.startswith("mounted\n"), done.stdout + done.stderr
    message = rf"Could not write checkpoint .*: .*{reason}.* are intact, the latest: {tmp_path}/step_000000001\n"
    assert len(re.findall(message, done.stdout)) == 4, done.stdout
    assert done.stdout.endswith("['step_000000001'] 10.0\n")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"Could not write checkpoint .* No checkpoint was there before."):
        save(tmp_path / "file", 1)


def test_a_read_only_folder(tmp_path, monkeypatch):
    earlier = save(tmp_path, 1)

    def refuse(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(storage.os, "makedirs", refuse)
    with pytest.raises(CheckpointError, match=f"Permission denied: .* intact, the latest: {earlier}"):
        save(tmp_path, 2)


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(storage.os, "listdir", refuse)
    for call in (lambda: save(tmp_path, 2), lambda: load_checkpoint(latest_checkpoint(tmp_path))):
        with pytest.raises(CheckpointError, match="Could not list"):
            call()


def test_old_checkpoints_that_cannot_be_deleted(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def refuse(path, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(storage.shutil, "rmtree", refuse)
    with pytest.raises(CheckpointError, match=r"Wrote checkpoint .*, but could not delete older files: .*denied"):
        save(tmp_path, 2, keep=1)
    monkeypatch.undo()
    assert steps(tmp_path) == [2]
    save(tmp_path, 3)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.LocalFiles, "sync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


KILLED_WRITER = """
same_step = sys.argv[3] == "True"
value = int(sys.argv[4])
while True:
    value += 1
    arrays = {"a": np.full(50_000, value), "b": np.full(50_000, -value)}
    save_checkpoint(sys.argv[2], 1 if same_step else value, arrays, {"value": value}, keep=2)
    print(value, flush=True)
"""


@pytest.mark.parametrize("same_step", [False, True], ids=["new steps", "same step"])
def test_sigkill_at_random_moments_loses_no_finished_checkpoint(tmp_path, same_step):
    value, generator = 0, random.Random(1)
    for _ in range(5):
        writer = run_child(KILLED_WRITER, tmp_path, same_step, value)
        writer.stdout.readline()
        time.sleep(generator.uniform(0, 0.1))
        writer.send_signal(signal.SIGKILL)
        printed = writer.communicate(timeout=60)[0].split()
        newest = load_checkpoint(latest_checkpoint(tmp_path))  # No fallback: the newest must be whole.
        value = newest.state["value"]
        assert value >= int(printed[-1] if printed else 1)
        assert np.all(newest.arrays["a"] == value) and np.all(newest.arrays["b"] == -value)
    save(tmp_path, value + 1, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == [f"step_{value + 1:09d}"]


class Killed(BaseException):
    """Stands for SIGKILL: the patched call never returns, and nothing is cleaned up."""


def kill_at(patch, moment):
    """From the `moment`-th call on, every operation that changes the disk fails, clean-up included."""
    calls = [0]

    def counted(real, cleans_up):
        def call(*args, **kwargs):
            calls[0] += 1
            if calls[0] < moment:
                return real(*args, **kwargs)
            if not kwargs.get("ignore_errors"):
                raise Killed
            return None

        return call

    for owner, name in [
        (storage.os, "replace"),
        (storage.os, "rename"),
        (storage.os, "rmdir"),
        (storage.os, "remove"),
        (storage.os, "makedirs"),
    ]:
        patch.setattr(owner, name, counted(getattr(owner, name), False))
    patch.setattr(storage.shutil, "rmtree", counted(storage.shutil.rmtree, True))
    patch.setattr(archive.HashingFile, "write", counted(archive.HashingFile.write, False))
    return calls


@pytest.mark.parametrize("same_step", [False, True], ids=["new step", "same step"])
def test_killed_at_every_operation(tmp_path, monkeypatch, same_step):
    """Every moment in turn, not a random one: the newest checkpoint is whole, old or new."""
    seen, moment = set(), 0
    while True:
        moment += 1
        folder = tmp_path / str(moment)
        save(folder, 1, value=1), save(folder, 2, value=2)
        with monkeypatch.context() as patch:
            calls = kill_at(patch, moment)
            with contextlib.suppress(Killed):
                save(folder, 2 if same_step else 3, value=3, keep=1)
        loaded = load_checkpoint(latest_checkpoint(folder))
        value = loaded.state["value"]
        assert value in (2, 3) and np.all(loaded.arrays["w"] == value)
        seen.add(value)
        save(folder, 9, keep=1)
        names = sorted(p.name for p in folder.rglob("*"))
        assert names == ["arrays-00000.npz", "manifest.json", "step_000000009"]
        if calls[0] < moment:
            break
    assert seen == {2, 3} and moment > 10


# --------------------------------------------------------------------------------- the one before, the thread


def test_fall_back_puts_what_is_damaged_out_of_the_way(tmp_path):
    paths = [save(tmp_path, step) for step in (1, 2, 3, 4)]
    for path in paths[1:3]:
        damaged = bytearray(shard(path).read_bytes())
        damaged[len(damaged) // 2] ^= 1
        shard(path).write_bytes(damaged)
    assert ck.fall_back(paths[3]).path == paths[3]
    with pytest.warns(UserWarning, match="Passed over") as warned:
        assert ck.fall_back(paths[2]).path == paths[0]
    assert [path in str(one.message) for path, one in zip(paths[2:0:-1], warned, strict=True)] == [True, True]
    assert steps(tmp_path) == [1, 4]
    save(tmp_path, 2)
    shard(paths[1]).unlink()
    with pytest.warns(UserWarning, match="arrays-00000.npz"):
        assert ck.fall_back(paths[1]).path == paths[0]
    assert {path.name for path in tmp_path.glob("*.damaged*")} == {
        "step_000000002.damaged", "step_000000002.damaged-2", "step_000000003.damaged",
    }  # fmt: skip
    shard(paths[0]).unlink()
    with pytest.raises(CheckpointError, match=r"Expected a readable checkpoint in .*step_000000001"):
        ck.fall_back(paths[0])
    assert steps(tmp_path) == [1, 4]


def write_beside(writer, folder, step, state=None):
    return writer.save(folder, step, {"w": np.full(100, step, "float32")}, state or {"value": step}, keep=2)


def test_a_writer_leaves_the_caller_to_go_on(tmp_path, monkeypatch):
    began, may_end = threading.Event(), threading.Event()
    sync = storage.LocalFiles.sync

    def slow(self, file):
        began.set()
        assert may_end.wait(60)
        sync(self, file)

    monkeypatch.setattr(storage.LocalFiles, "sync", slow)
    writer, state = CheckpointWriter(), {"list": [1]}
    path = write_beside(writer, tmp_path, 1, state)
    assert began.wait(60) and steps(tmp_path) == []
    state["list"].append(2)
    may_end.set()
    writer.wait()
    assert load_checkpoint(path).state == {"list": [1]}
    for step in (2, 3):
        write_beside(writer, tmp_path, step)  # waits for the one before
    writer.wait()
    assert steps(tmp_path) == [2, 3]


def test_a_writers_error_is_raised_once_where_it_is_waited_for(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = CheckpointWriter()
    for call in (writer.wait, lambda: write_beside(writer, tmp_path, 2)):
        with monkeypatch.context() as patch:
            patch.setattr(archive.HashingFile, "write", full)
            write_beside(writer, tmp_path, 1)
            writer._thread.join()
        with pytest.raises(CheckpointError, match="No space left"):
            call()
        writer.raise_error()
    with pytest.raises(ValueError, match="arrays"):  # at once
        writer.save(tmp_path, 1, {"a": [1]}, {})
    write_beside(writer, tmp_path, 1)
    writer.wait()
    assert steps(tmp_path) == [1]


# ------------------------------------------------------------------------------------------ imports, remote


def test_the_module_imports_without_tensorflow():
    out, err = run_child("print([name for name in sys.modules if name in ('tensorflow', 'keras')])").communicate()
    assert out.strip() == "[]", err


def test_remote_paths(monkeypatch):
    """TensorFlow's in-memory file system stands for gs:// and s3://."""
    tf = pytest.importorskip("tensorflow")
    folder = "ram://lightkeras/run"
    assert checkpoints(folder) == []
    paths = [save(folder, step, keep=2) for step in (1, 2, 3)]
    assert checkpoints(folder) == paths[1:]
    assert np.all(load_checkpoint(latest_checkpoint(folder)).arrays["w"] == 3)
    assert save(folder, 3, value=4) == paths[2]
    assert open_checkpoint(paths[2]).state == {"value": 4} and np.all(load_checkpoint(paths[2]).arrays["w"] == 4)
    assert sorted(tf.io.gfile.listdir(paths[2])) == ["arrays-00001.npz", "manifest.json"]

    tf.io.gfile.makedirs(folder + "/step_000000009")  # A writer killed before its manifest.
    with tf.io.gfile.GFile(folder + "/step_000000009/arrays-00000.npz", "wb") as file:
        file.write(b"half")
    assert checkpoints(folder) == paths[1:]
    save(folder, 4)
    assert not tf.io.gfile.exists(folder + "/step_000000009")

    def full(*args):
        raise tf.errors.ResourceExhaustedError(None, None, "quota")

    for step in (4, 5):
        with monkeypatch.context() as patch:
            patch.setattr(storage.RemoteFiles, "commit", full)
            with pytest.raises(CheckpointError, match=r"quota. Checkpoints there are intact, .*step_000000004"):
                save(folder, step, value=9)
        assert load_checkpoint(latest_checkpoint(folder)).state == {"value": 4}

    tf.io.gfile.remove(paths[2] + "/arrays-00001.npz")
    with pytest.raises(CheckpointError, match=f"(?s)arrays-00001.npz.*An earlier whole checkpoint: {paths[1]}"):
        load_checkpoint(paths[2])
