"""The environment variables that TensorFlow and Keras read when they are imported."""

import os
import pathlib
import sys


def has_gpu() -> bool:
    """Returns whether the system shows an NVIDIA or AMD device."""
    return any(pathlib.Path(device).exists() for device in ("/dev/nvidia0", "/dev/kfd", "/dev/dxg"))


def _imported_backend() -> str | None:
    """Returns the backend of a Keras that the program imported before, by the environment or by keras.json."""
    keras = sys.modules.get("keras")
    return keras.config.backend() if keras and hasattr(keras, "config") else None


def configure() -> None:
    """Sets the backend of Keras, oneDNN and the level of TensorFlow's log, unless the user has set them.

    Without a GPU the level is "3": oneDNN logs an error for each int32 kernel that it lacks. TensorFlow writes
    some lines before it reads that level; they stay, for a fatal message may be among them. oneDNN is off by default
    on some processors, where it trains an RNN or a GAN in two thirds of the time.

    Raises:
        ImportError: The environment asks for another backend of Keras.
    """
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise ImportError(f'Expected KERAS_BACKEND to be "tensorflow" or unset. Received: KERAS_BACKEND={backend!r}')
    if _imported_backend() not in (None, "tensorflow"):
        raise ImportError(
            f'Expected Keras to be imported with the backend "tensorflow". Received: {_imported_backend()!r}, by the '
            "user's keras.json. Import lightkeras before Keras, or set KERAS_BACKEND=tensorflow"
        )
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if not has_gpu():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
