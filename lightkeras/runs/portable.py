"""A task as a copy, a pickle or a `.keras` file: with its layers, its weights, and the facts about the data.

All three make the task again by its class and arguments, call `configure_model` with data that has only its
`state_dict`, as `load_from_checkpoint` does, and restore what the layers held. Optimizers stay behind.
"""

import base64
import dataclasses
import json
from collections.abc import Callable
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from lightkeras.data import DataModule
from lightkeras.data.batches import spec_from_json, spec_to_json
from lightkeras.training import layer_state
from lightkeras.utils import internals
from lightkeras.utils.hparams import HyperparametersMixin, describe, read_arguments
from lightkeras.utils.trust import class_path, import_class, package_of

CONFIG = "task"


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a task was built from.

    Attributes:
        data_class, init_args, data_state: Make the data again, without its examples.
        policy: The dtype policy of new layers.
    """

    data_class: type[DataModule]
    init_args: dict[str, Any]
    data_state: dict[str, Any]
    policy: str

    @classmethod
    def of(cls, data: DataModule) -> Self:
        """Remembers the data under the current dtype policy."""
        return cls(type(data), data.init_args, data.state_dict(), keras.config.dtype_policy().name)

    def make_data(self) -> DataModule:
        """Makes the data again, with its state."""
        data = self.data_class(**self.init_args)
        data.load_state_dict(self.data_state)
        return data


class PortableTask(HyperparametersMixin):
    """The methods by which Python and Keras copy a task. A task that is not built yet is made again as it was made."""

    built: bool
    spec: dict[str, tf.TensorSpec]
    variables: list[keras.Variable]
    global_step: int
    seed: int
    configure_model: Callable[[DataModule], None]
    build_from: Callable[[dict[str, tf.TensorSpec]], None]
    data_module: type[DataModule]
    construction = staticmethod(internals.names_from_the_start)  # of metrics, by which their values are logged
    _origin: Origin | None = None

    def __init_subclass__(cls, **kwargs):
        """Registers the class with Keras, which loads no other from a `.keras` file."""
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable(package=cls.__module__)(cls)

    def remember_data(self, data: DataModule) -> None:
        """Keeps the facts about the data that the task was built with."""
        self._origin = Origin.of(data)

    def describe_arguments(self) -> dict[str, Any]:
        """Returns what identifies the task in a run: its class, and the constructor's arguments in the types of JSON.

        Raises:
            TypeError: An argument has a type that no file can hold.
        """
        return describe(self)

    # ---- copy.deepcopy and pickle

    def __reduce__(self):
        state = self._copy_state() if self.built and self._origin else None
        return _remake, (type(self), self.init_args, self._origin, state)

    def _copy_state(self) -> dict[str, Any]:
        variables = [np.array(variable) for variable in self.variables]
        position = {"global_step": self.global_step, "seed": self.seed, "spec": spec_to_json(self.spec)}
        return {"variables": variables, "layers": layer_state.capture(self), **position}

    def _build_as(self, origin: Origin, spec: Any, layers: dict[str, np.ndarray]) -> None:
        """Creates layers and variables as those of another task were."""
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(origin.policy)
        try:
            with internals.names_from_the_start():
                self.configure_model(origin.make_data())
                layer_state.prepare(self, layers)
                self.build_from(spec)
        finally:
            keras.config.set_dtype_policy(before)
        self._origin = origin

    # ---- the .keras format

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, in the form of a run's config.yaml."""
        return describe(self)["init_args"]

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """Makes the task by the result of `get_config`; it is not built."""
        return cls(**read_arguments(config, [package_of(cls)]))

    def get_build_config(self) -> dict[str, Any] | None:
        """Returns what `build_from_config` builds the task from; None for a task that is not built."""
        origin = self._origin
        if not self.built or origin is None:
            return None
        values = {
            "data": describe(origin.make_data()), "data_state": origin.data_state, "policy": origin.policy,
            "spec": spec_to_json(self.spec),
            "layers": {name: _to_text(value) for name, value in layer_state.capture(self).items()},
            "seed_states": [np.array(state).tolist() for state in internals.seed_states(self)],
            "global_step": self.global_step, "seed": self.seed,
        }  # fmt: skip
        return {CONFIG: json.dumps(values)}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Builds the task by the result of `get_build_config`.

        Raises:
            ImportError: The class of the data is no `DataModule`, or not trusted (see `utils.trust`).
        """
        values = json.loads(config[CONFIG])
        data, layers = values["data"], {name: _to_array(text) for name, text in values["layers"].items()}
        trust = [package_of(type(self))]
        kind = self._find_data_class(data["class_path"], trust)
        spec = spec_from_json(values["spec"])
        self._build_as(
            Origin(kind, read_arguments(data["init_args"], trust), values["data_state"], values["policy"]), spec, layers
        )
        layer_state.restore(self, layers, "the file")
        for state, value in zip(internals.seed_states(self), values["seed_states"], strict=True):
            state.assign(value)
        self.global_step, self.seed = values["global_step"], values["seed"]

    def _find_data_class(self, path: str, trust: list[str]) -> type[DataModule]:
        """Finds the class of the data: the task's own, one that was registered with Keras, or a trusted one."""
        if class_path(self.data_module) == path:
            return self.data_module
        named = keras.saving.get_registered_object(path.rpartition(".")[2])
        is_data = isinstance(named, type) and issubclass(named, DataModule)
        return named if is_data else import_class(path, DataModule, trust)

    def get_compile_config(self) -> None:
        """Returns nothing: the Trainer compiles."""

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Does nothing: the Trainer compiles."""


def _remake(kind: type, init_args: dict, origin: Origin | None, state: dict[str, Any] | None) -> Any:
    task = kind(**init_args)
    if origin is None or state is None:
        return task
    task._build_as(origin, spec_from_json(state["spec"]), state["layers"])
    for variable, value in zip(task.variables, state["variables"], strict=True):
        variable.assign(value)
    layer_state.restore(task, state["layers"], "the copy")
    task.global_step, task.seed = state["global_step"], state["seed"]
    return task


def _to_text(array: np.ndarray) -> list:
    return [array.dtype.str, list(array.shape), base64.b64encode(array.tobytes()).decode()]


def _to_array(text: list) -> np.ndarray:
    dtype, shape, data = text
    return np.frombuffer(base64.b64decode(data), np.dtype(dtype)).reshape(shape)
