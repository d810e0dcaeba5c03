"""The import of TensorFlow hides nothing that it says, whatever ends it."""

import os
import signal
import subprocess
import sys

import pytest

FATAL = "F0000 00:00:1.2 3 cpu_info.cc:1] The TensorFlow library was compiled to use AVX instructions"
ENDS = {
    "abort": ("os.abort()", -signal.SIGABRT, ""),
    "exit": ("os._exit(3)", 3, ""),
    "error": ("raise ImportError('no libfoo')", 1, "ImportError: no libfoo"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_message_written_as_tensorflow_is_imported_is_shown(tmp_path, end):
    statement, code, last = ENDS[end]
    package = tmp_path / "tensorflow"
    package.mkdir()
    (package / "__init__.py").write_text(f"import os\nos.write(2, b'{FATAL}\\n')\n{statement}\n", encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    done = subprocess.run(
        [sys.executable, "-c", "import lightkeras; lightkeras.TaskModule"],
        env={**kept, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == code and f"{FATAL}\n" in done.stderr and last in done.stderr


def test_a_keras_that_was_imported_with_another_backend_is_refused(tmp_path):
    package = tmp_path / "keras"
    package.mkdir()
    (package / "__init__.py").write_text("class config:\n    backend = staticmethod(lambda: 'jax')\n", encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", "import keras, lightkeras"],
        env={**kept, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and "with the backend \"tensorflow\". Received: 'jax'" in done.stderr
    assert "Import lightkeras before Keras" in done.stderr
