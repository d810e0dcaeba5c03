"""TensorFlow's environment, decided before it is imported where the user has not decided it."""

import contextlib
import importlib.util
import os
import pathlib
import re
import sys
import tempfile

_NOISE = re.compile(
    r"WARNING: All log messages before absl|[IW]\d{4} \d\d:|\d{4}-\d\d-\d\d .*: [IW] "
    r"|To enable the following instructions"
    r"|E\d{4} .*(cuInit|Unable to register cu|computation_placer)"
)


def has_gpu() -> bool:
    """Whether the system shows an NVIDIA or AMD device."""
    return any(pathlib.Path(device).exists() for device in ("/dev/nvidia0", "/dev/kfd", "/dev/dxg"))


def configure() -> None:
    """Sets Keras' backend and oneDNN, and keeps TensorFlow's start-up messages back where there is no GPU.

    oneDNN is off by default on some processors, where it trains an RNN or a GAN in two thirds of the time.

    Raises:
        ImportError: The environment asks for another backend of Keras.
    """
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise ImportError(f'Expected KERAS_BACKEND to be "tensorflow" or unset. Received: KERAS_BACKEND={backend!r}')
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if has_gpu():
        return
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # oneDNN logs an error for each int32 kernel it lacks
    if level == "3" and "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _QuietFinder())


class _QuietFinder:
    """Imports TensorFlow with its native start-up messages taken out of stderr (they come before any log level)."""

    def find_spec(self, name, path=None, target=None):
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None:
            return None
        run = spec.loader.exec_module

        def quietly(module):
            with _without_noise():
                run(module)
                module.config.list_physical_devices()  # looks for CUDA, and says that there is none

        spec.loader.exec_module = quietly
        return spec


@contextlib.contextmanager
def _without_noise():
    """Gives the known start-up messages written to file descriptor 2 no way out; anything else is written after all."""
    with tempfile.TemporaryFile() as caught:
        sys.stderr.flush()
        real = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            caught.seek(0)
            lines = caught.read().decode(errors="replace").splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not _NOISE.match(line)))
