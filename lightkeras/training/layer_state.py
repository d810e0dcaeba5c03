"""What layers keep beside variables: vocabularies, boundaries, assets, and whatever Keras' own hooks save.

A layer keeps more than variables if its class has hooks of its own (`save_own_variables`, `load_own_variables`,
`save_assets`). Its variables are saved with all others; here is the rest, as arrays: bytes (uint8) for JSON and files.
Lookups and `Discretization` are asked by their public methods: Keras' file of a vocabulary cuts tokens that hold line
breaks, and it has no hook for boundaries.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lightkeras.checkpoint import CheckpointError
from lightkeras.utils import internals

PREFIX, VALUES, BUILD = "layers/", "values", "build"
LOOKUPS = (keras.layers.StringLookup, keras.layers.IntegerLookup)
BY_METHODS = (*LOOKUPS, keras.layers.Discretization)


def capture(model: keras.Model) -> dict[str, np.ndarray]:
    """Copies what the layers keep beside variables: arrays by names that begin with "layers/"."""
    return {f"{place}{name}": value for place, layer in _keepers(model) for name, value in _capture(layer).items()}


def restore(model: keras.Model, arrays: Mapping[str, np.ndarray], path: str) -> None:
    """Restores the result of `capture`, after the variables; layers make what depends on variables anew.

    Args:
        model: The model, built.
        arrays: May hold other arrays too, or none of these: an older checkpoint.
        path: Of the checkpoint, for the message.

    Raises:
        CheckpointError: The model has no such layers.
    """
    kept = {name: value for name, value in arrays.items() if name.startswith(PREFIX)}
    for place, layer in _keepers(model):
        names = [name for name in kept if name.startswith(place)]
        _restore(layer, {name.removeprefix(place): kept.pop(name) for name in names})
    if kept:
        raise CheckpointError(f"Expected {path} to hold the state of this model's layers. Received: {', '.join(kept)}")


def prepare(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Restores vocabularies and boundaries before the model is built: the sizes of variables may depend on them."""
    layers, states = dict(_keepers(model)), {}
    for name in arrays:
        if name.startswith(PREFIX) and name.endswith((VALUES, BUILD)):
            states["/".join(name.split("/")[:3]) + "/"] = name
    if not states.keys() <= layers.keys():
        return  # some layers are made by the build
    for place in sorted(states):
        layer, value = layers[place], json.loads(arrays[states[place]].tobytes())
        if isinstance(layer, BY_METHODS):
            _set_values(layer, value, arrays.get(f"{place}own/idf_weights"))
        elif value and not layer.built:
            layer.build_from_config(value)
    for layer in layers.values():
        if isinstance(layer, keras.utils.FeatureSpace):
            layer.get_encoded_features()  # makes layers by the vocabularies: not in a graph, as its first call would


def finish_build(model: keras.Model) -> None:
    """Makes anew the constants that `Normalization` made of its variables in the graph of the build."""
    for layer in internals.flatten_layers(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _keepers(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """Yields the layers that keep more than variables, each with the beginning of its names."""
    found = [layer for layer in internals.flatten_layers(model) if internals.has_own_state(layer)]
    for number, layer in enumerate(one for one in found if not isinstance(one, keras.layers.TextVectorization)):
        yield f"{PREFIX}{number:04d}/{type(layer).__name__}/", layer  # a TextVectorization's lookup is a layer itself


def _capture(layer: Any) -> dict[str, np.ndarray]:
    arrays = {f"own/{name}": np.array(value) for name, value in _beside_variables(layer).items()}
    if isinstance(layer, BY_METHODS):
        return {**arrays, VALUES: _to_bytes(_values(layer))}
    if internals.has_own_build_config(layer):
        arrays[BUILD] = _to_bytes(layer.get_build_config())
    if hasattr(layer, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            for file in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                arrays[f"assets/{file.relative_to(folder).as_posix()}"] = np.frombuffer(file.read_bytes(), np.uint8)
    return arrays


def _to_bytes(value: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _own(layer: Any) -> dict[str, Any]:
    store = {}
    layer.save_own_variables(store)
    return store


def _beside_variables(layer: Any) -> dict[str, Any]:
    known = {id(one) for variable in layer.variables for one in (variable, variable.value)}
    return {name: value for name, value in _own(layer).items() if id(value) not in known}


def _values(layer: Any) -> Any:
    if isinstance(layer, LOOKUPS):
        return [token if isinstance(token, str) else int(token) for token in layer.get_vocabulary()]
    return layer.bin_boundaries


def _restore(layer: Any, arrays: dict[str, np.ndarray]) -> None:
    own = {name.removeprefix("own/"): value for name, value in arrays.items() if name.startswith("own/")}
    if isinstance(layer, BY_METHODS):
        if VALUES in arrays:
            _set_values(layer, json.loads(arrays[VALUES].tobytes()), own.get("idf_weights"))
        return
    layer.load_own_variables({**_own(layer), **own})
    if hasattr(layer, "load_assets"):
        assets = {name: value for name, value in arrays.items() if name.startswith("assets/")}
        with tempfile.TemporaryDirectory() as folder:
            for name, value in assets.items():
                path = _inside(folder, name.removeprefix("assets/"))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(value.tobytes())
            if assets:
                layer.load_assets(folder)


def _inside(folder: str, name: str) -> Path:
    """Returns the path of a file in `folder`; a CheckpointError if its name leads out of it."""
    path = Path(folder, name).resolve()
    if not path.is_relative_to(Path(folder).resolve()):
        raise CheckpointError(f"Expected the name of a file of a layer, without '..'. Received: {name!r}")
    return path


def _set_values(layer: Any, values: Any, idf_weights: np.ndarray | None) -> None:
    if isinstance(layer, keras.layers.Discretization):
        layer.bin_boundaries = values
    elif idf_weights is not None:
        layer.set_vocabulary(values, idf_weights=idf_weights)
    elif values != _values(layer):
        layer.set_vocabulary(values)
