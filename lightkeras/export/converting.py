"""Writes endpoints as ONNX and LiteRT models, by the converters of the extras `onnx` and `litert`."""

import importlib.util
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from lightkeras.export import saved_model
from lightkeras.export.check import ExportError
from lightkeras.export.endpoints import Endpoint
from lightkeras.utils.checks import lightkeras_error

OPSET = 18
NEEDED = {"onnx": ("tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert",)}  # packages, by extra


def require_extra(form: str) -> None:
    """Raises ImportError, with the line that installs it, where a package of the format's extra is missing."""
    missing = [name for name in NEEDED.get(form, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise lightkeras_error(ImportError)(
            f"Expected the packages of format={form!r}: pip install 'lightkeras[{form}]'. Received: no "
            f"{', '.join(missing)}"
        )


def write_onnx(folder: Path, endpoints: Mapping[str, Endpoint]) -> None:
    """Writes `NAME.onnx` of each endpoint; inputs and outputs keep their names.

    Raises:
        ExportError: An endpoint has an operation that ONNX lacks; both are named.
    """
    import tf2onnx  # pyright: ignore[reportMissingImports]

    for name, endpoint in endpoints.items():
        function, path = endpoint.trace(), str(folder / f"{name}.onnx")
        with _named(name, "onnx"):
            tf2onnx.convert.from_function(function, function.input_signature, opset=OPSET, output_path=path)


def write_litert(folder: Path, endpoints: Mapping[str, Endpoint]) -> None:
    """Writes `NAME.tflite` of each endpoint, with the signature NAME; weights are constants, operations LiteRT's own.

    Raises:
        ExportError: An endpoint has an operation that LiteRT lacks; both are named.
    """
    for name, endpoint in endpoints.items():
        with tempfile.TemporaryDirectory() as place, _named(name, "litert"):
            saved_model.write(Path(place), {name: endpoint})
            converter = tf.lite.TFLiteConverter.from_saved_model(place, signature_keys=[name])
            (folder / f"{name}.tflite").write_bytes(converter.convert())


@contextmanager
def _named(name: str, form: str) -> Iterator[None]:
    """Says which endpoint did not convert, and why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the converters, about old names of TensorFlow and NumPy
            yield
    except Exception as error:  # the converters raise errors of many kinds
        reason = " ".join(str(error).split())
        raise ExportError(
            f'Expected endpoint "{name}" to convert to format={form!r}. Received: {reason[:400]} '
            '(format="saved_model" takes every operation.)'
        ) from error
