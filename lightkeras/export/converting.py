"""Writes endpoints as ONNX and LiteRT models, by the converters of the extras `onnx` and `litert`."""

import importlib.util
import logging
import re
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
OPERATION = re.compile(r"Tensorflow op \[[^]]*: (\w+)\]|'tf\.(\w+)' op|'(\w+)' op is not|TF Select ops: (\w+)")
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
        with converting(name, "onnx"):
            tf2onnx.convert.from_function(function, function.input_signature, opset=OPSET, output_path=path)


def write_litert(folder: Path, endpoints: Mapping[str, Endpoint]) -> None:
    """Writes `NAME.tflite` of each endpoint, with the signature NAME; weights are constants, operations LiteRT's own.

    Raises:
        ExportError: An endpoint has an operation that LiteRT lacks; both are named.
    """
    for name, endpoint in endpoints.items():
        with tempfile.TemporaryDirectory() as place, converting(name, "litert"):
            saved_model.write(Path(place), {name: endpoint})
            converter = tf.lite.TFLiteConverter.from_saved_model(place, signature_keys=[name])
            (folder / f"{name}.tflite").write_bytes(converter.convert())


class _Errors(logging.Handler):
    """Keeps the errors that a converter logs instead of raising them."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the text."""
        self.texts.append(record.getMessage())


@contextmanager
def converting(name: str, form: str) -> Iterator[None]:
    """Raises ExportError, with the endpoint and the operations, for what a converter raises or logs in the block."""
    errors, source = _Errors(), logging.getLogger("tf2onnx")
    source.addHandler(errors)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the converters, about old names of TensorFlow and NumPy
            yield
    except Exception as error:  # the converters raise errors of many kinds
        raise _explain(name, form, str(error)) from error
    finally:
        source.removeHandler(errors)
    if errors.texts:
        raise _explain(name, form, errors.texts[0])


def _explain(name: str, form: str, reason: str) -> ExportError:
    found = dict.fromkeys(next(filter(None, match.groups())) for match in OPERATION.finditer(reason))
    received = f"operations that it lacks, {', '.join(found)}" if found else " ".join(reason.split())[:400]
    return ExportError(
        f'Expected endpoint "{name}" to convert to format={form!r}. Received: {received} (format="saved_model" takes '
        "every operation)"
    )
