"""What an import does, each in a process of its own."""

import os
import re
import subprocess
import sys

from lightkeras.utils.environment import has_gpu


def python(code: str, **environment) -> subprocess.CompletedProcess:
    """Runs `code` where no variable decides anything but those of `environment`."""
    decided = ("TF_", "KERAS_", "PYTHONWARNINGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(decided)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={**kept, **environment}
    )


def test_the_import_alone_does_not_wait_for_tensorflow():
    done = python(
        "import lightkeras, sys; print([n for n in ('tensorflow', 'keras', 'numpy') if n in sys.modules], "
        "'TaskModule' in dir(lightkeras))"
    )
    assert (done.stdout, done.stderr) == ("[] True\n", "")


def test_first_use_prints_nothing_of_ours():
    done = python(
        "import lightkeras as lk, os; d = lk.AddressedDataset.from_arrays({'x': [1, 2, 3]}, 2, shuffle=False)\n"
        "print([b['x'].tolist() for b in d.stream(epochs=1).as_numpy_iterator()])\n"
        "print(os.environ['TF_ENABLE_ONEDNN_OPTS'], os.environ['KERAS_BACKEND'])"
    )
    assert done.stdout == "[[1, 2], [3, 1]]\n1 tensorflow\n"
    if not has_gpu():  # TensorFlow's own lines, written before it reads any log level
        assert all(re.match(r"I\d{4} |WARNING: All log messages before absl", x) for x in done.stderr.splitlines())


def test_what_the_user_has_set_stays():
    done = python(
        "import lightkeras, os, sys; print(os.environ['TF_CPP_MIN_LOG_LEVEL'], os.environ['TF_ENABLE_ONEDNN_OPTS'])",
        TF_CPP_MIN_LOG_LEVEL="0",
        TF_ENABLE_ONEDNN_OPTS="0",
    )
    assert (done.stdout, done.stderr) == ("0 0\n", "")


def test_another_backend_is_refused():
    done = python("import lightkeras", KERAS_BACKEND="jax")
    assert 'ImportError: Expected KERAS_BACKEND to be "tensorflow" or unset. Received: ' in done.stderr


def test_an_unknown_name_is_an_attribute_error():
    done = python("import lightkeras; lightkeras.Trainre")
    assert "AttributeError: module 'lightkeras' has no attribute 'Trainre'" in done.stderr


def test_without_tensorflow_python_says_so(tmp_path):
    code = f"import sys; sys.path = [p for p in sys.path if 'site-packages' not in p] + [{os.getcwd()!r}]\n"
    done = python(code + "import lightkeras; import tensorflow")
    assert "ModuleNotFoundError: No module named 'tensorflow'" in done.stderr
