"""Values in the form of JSON and YAML, and back, with their types.

None, bool, int, float, str, lists, and dicts with str keys stand as they are. Any other value is a dict with one key
that names its type, such as `{"$tuple": [3, 3]}`, `{"$dict": [[0, 1.0], [1, 5.0]]}` or `{"$path": "~/photos"}`. Such
values are tuples, sets, other dicts, bytes, NaN and infinities, paths, dates and times, NumPy scalars, enums,
dataclasses, and the objects that Keras serializes (layers, models, initializers, optimizers, schedules, ...).
"""

import base64
import dataclasses
import datetime
import enum
import json
import math
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from lightkeras.utils.checks import lightkeras_error
from lightkeras.utils.trust import TrustError, class_path, import_class, require_trusted

KERAS_BASES = (
    keras.Layer, keras.DTypePolicy, keras.Loss, keras.Metric, keras.Initializer, keras.Regularizer, keras.Optimizer,
    keras.constraints.Constraint, keras.optimizers.schedules.LearningRateSchedule,
)  # fmt: skip
NUMPY_KINDS = "biufcSUmM"  # numbers, strings, dates
_ISO = (datetime.datetime, datetime.date, datetime.time)
_PURE_PATHS = (pathlib.PurePosixPath, pathlib.PureWindowsPath)
_FLAT = {kind.__name__: kind for kind in (*_ISO, *_PURE_PATHS)}  # written as one str
_SEQUENCES: dict[str, type] = {kind.__name__: kind for kind in (tuple, set, frozenset)}


def to_written(value: Any) -> Any:
    """Returns `value` in the types of JSON; `from_written` returns an equal value of the same type.

    Raises:
        TypeError: The value, or one inside it, is of another type; the message shows it.
    """
    kind = type(value)
    if value is None or kind in (bool, int) or (kind is float and math.isfinite(value)):
        return value
    if kind is str:
        return value if _is_encodable(value) else {"$str": [ord(character) for character in value]}
    if kind is list:
        return [to_written(item) for item in value]
    if kind is dict:
        return _write_dict(value)
    for write in (_write_flat, _write_sequence, _write_numpy, _write_object):
        if (written := write(value)) is not None:
            return written
    raise lightkeras_error(TypeError)(
        "Expected a number, str, list, tuple, set, dict, path, date, NumPy scalar, enum, dataclass or an object "
        f"that Keras serializes. Received: {value!r}, a {class_path(kind)}"
    )


def _is_encodable(text: str) -> bool:
    """Whether YAML gives the text back: no half of a character is in it, and no sign that YAML takes for a line end."""
    return not any("\ud800" <= character <= "\udfff" or character in "\x85\u2028\u2029" for character in text)


def _write_dict(value: dict) -> dict:
    plain = all(type(key) is str and _is_encodable(key) and not key.startswith("$") for key in value)
    if plain:
        return {key: to_written(item) for key, item in value.items()}
    return {"$dict": [[to_written(key), to_written(item)] for key, item in value.items()]}


def _write_flat(value: Any) -> dict | None:
    kind = type(value)
    if kind is float:
        return {"$float": str(value)}
    if kind is bytes:
        return {"$bytes": base64.b64encode(value).decode()}
    if kind is datetime.timedelta:
        return {"$timedelta": [value.days, value.seconds, value.microseconds]}
    if kind in _ISO and getattr(value, "tzinfo", None) is None:
        return {f"${kind.__name__}": value.isoformat()}
    if kind is type(pathlib.Path()):
        return {"$path": to_written(str(value))}
    return {f"${kind.__name__}": to_written(str(value))} if kind in _PURE_PATHS else None


def _write_sequence(value: Any) -> dict | None:
    if type(value) not in _SEQUENCES.values():
        return None
    items = [to_written(item) for item in value]
    if type(value) is not tuple:
        items.sort(key=lambda item: json.dumps(item, sort_keys=True))  # the order of a set differs by process
    return {f"${type(value).__name__}": items}


def _write_numpy(value: Any) -> dict | None:
    if not isinstance(value, np.generic) or value.dtype.kind not in NUMPY_KINDS:
        return None
    plain = value.item()
    readable = type(plain) in (bool, int, float, str, bytes)
    return {"$numpy": [value.dtype.str, to_written(plain if readable else value.tobytes())]}


def _write_object(value: Any) -> dict | None:
    path = class_path(type(value))
    if isinstance(value, enum.Enum):
        name = value.name if value.name in type(value).__members__ else None
        return {"$enum": [path, name, None if name else to_written(value.value)]}
    if dataclasses.is_dataclass(value) and not isinstance(value, KERAS_BASES):
        fields = {field.name: to_written(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"$dataclass": [path, fields]}
    if isinstance(value, KERAS_BASES):
        return {"$keras": json.loads(json.dumps(keras.saving.serialize_keras_object(value)))}
    return None


def is_written_type(value: Any) -> bool:
    """Returns whether `value`, or one inside it, is written with its type."""
    if isinstance(value, dict):
        return any(str(key).startswith("$") for key in value) or any(map(is_written_type, value.values()))
    return isinstance(value, list) and any(map(is_written_type, value))


def from_written(value: Any, trust: Iterable[str] = ()) -> Any:
    """Returns the value that `to_written` wrote.

    Args:
        value: The value in the types of JSON.
        trust: Packages whose classes may be imported (see `utils.trust`).

    Raises:
        TrustError: It names a class that may not be imported or created.
        ValueError: It names a type that `to_written` does not write, or its content does not fit.
    """
    if isinstance(value, list):
        return [from_written(item, trust) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(str(key).startswith("$") for key in value):
        return {key: from_written(item, trust) for key, item in value.items()}
    try:
        ((name, content),) = value.items()
        return _READERS[name[1:]](content, tuple(trust))
    except TrustError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        expected = ", ".join(f"${known}" for known in _READERS)
        raise lightkeras_error(ValueError)(
            f"Expected a written value: a dict with one key of {expected}. Received: {value!r:.200} ({error})"
        ) from error


def _read_numpy(content: Any, trust: tuple[str, ...]) -> Any:
    dtype, value = np.dtype(content[0]), from_written(content[1], trust)
    if dtype.kind not in NUMPY_KINDS:
        raise ValueError(f"{dtype} is no dtype of numbers, strings or dates")
    if dtype.kind == "S":
        return np.bytes_(value)
    return np.frombuffer(value, dtype)[0] if isinstance(value, bytes) else np.array(value, dtype)[()]


def _read_enum(content: Any, trust: tuple[str, ...]) -> enum.Enum:
    path, name, value = content
    kind = import_class(path, enum.Enum, trust)
    return kind.__members__[name] if name else kind(from_written(value, trust))


def _read_dataclass(content: Any, trust: tuple[str, ...]) -> Any:
    """Restores the fields, as unpickling would: no constructor is called."""
    path, fields = content
    kind = import_class(path, object, trust)
    if not dataclasses.is_dataclass(kind) or issubclass(kind, KERAS_BASES):
        raise TrustError(f"Expected {path} to be a dataclass. Received: {kind!r}")
    made = object.__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(made, field.name, from_written(fields[field.name], trust))
    return made


def _read_keras(content: Any, trust: tuple[str, ...]) -> Any:
    _require_trusted_keras(content, trust)
    made = keras.saving.deserialize_keras_object(content, safe_mode=True)
    if not isinstance(made, KERAS_BASES):
        raise TrustError(f"Expected an object that Keras serializes. Received: {type(made)!r}")
    return made


def _require_trusted_keras(config: Any, trust: tuple[str, ...]) -> None:
    """Rejects a configuration that makes Keras import a module which is neither imported nor trusted."""
    for item in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        _require_trusted_keras(item, trust)
    if isinstance(config, dict) and isinstance(config.get("module"), str):
        require_trusted(f"{config['module']}.{config.get('class_name')}", trust)


_READERS: dict[str, Callable[[Any, tuple[str, ...]], Any]] = {
    "str": lambda codes, trust: "".join(map(chr, codes)),
    "float": lambda text, trust: float(text),
    "bytes": lambda text, trust: base64.b64decode(text, validate=True),
    "dict": lambda items, trust: {from_written(key, trust): from_written(item, trust) for key, item in items},
    "timedelta": lambda parts, trust: datetime.timedelta(*parts),
    "path": lambda text, trust: pathlib.Path(from_written(text, trust)),
    **{name: lambda text, trust, kind=kind: kind.fromisoformat(text) for name, kind in _FLAT.items() if kind in _ISO},
    **{
        name: lambda text, trust, kind=kind: kind(from_written(text, trust))
        for name, kind in _FLAT.items()
        if kind in _PURE_PATHS
    },
    **{
        name: lambda items, trust, kind=kind: kind(from_written(item, trust) for item in items)
        for name, kind in _SEQUENCES.items()
    },
    "numpy": _read_numpy,
    "enum": _read_enum,
    "dataclass": _read_dataclass,
    "keras": _read_keras,
}
