"""What a plain model declares to the Trainer and its callbacks."""

import re
from typing import Any

import keras
import tensorflow as tf

from lightkeras.distribution.replicas import num_replicas
from lightkeras.keras_models.identity import describe_model
from lightkeras.training.keras_methods import KerasMethods
from lightkeras.utils import internals
from lightkeras.utils.checks import require


class DeclaredByModel(KerasMethods):
    """The declarations of a task, taken from a model.

    Attributes:
        model: The model.
    """

    model: keras.Model
    exchanges_averages = False

    def model_of_callbacks(self) -> keras.Model:
        """Returns the model that Keras' callbacks get."""
        return self.model

    @property
    def described_class(self) -> type:
        """The model's class."""
        return type(self.model)

    @property
    def name_of_runs(self) -> str:
        """The name of the folder of the model's runs."""
        kind = internals.to_snake_case(type(self.model).__name__)
        return kind if re.fullmatch(rf"{kind}(_\d+)?", self.model.name) else self.model.name

    @property
    def monitor(self) -> tuple[str, str]:
        """The model's attribute `monitor`, or else the validation loss."""
        return getattr(self.model, "monitor", ("val_loss", "min"))

    @property
    def sample_every(self) -> int:
        """The model's attribute `sample_every`, or else 1."""
        return getattr(self.model, "sample_every", 1)

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        """The model's attribute `shown_metrics`, or else none."""
        return tuple(getattr(self.model, "shown_metrics", ()))

    @property
    def writes_samples(self) -> bool:
        """Whether the model has a method `write_samples(folder, name)`."""
        return callable(getattr(self.model, "write_samples", None))

    def report_sections(self) -> list:
        """Returns what the model's own `report_sections()` returns, or else none."""
        return self.model.report_sections() if hasattr(self.model, "report_sections") else []

    @property
    def preferred_steps_per_execution(self) -> int | None:
        """The number that the model was compiled with, unless it is 1."""
        return self.model.steps_per_execution if self.model.steps_per_execution > 1 else None

    @property
    def prefer_jit_compile(self) -> bool | None:
        """True where the model was compiled with XLA."""
        return True if self.model.jit_compile else None

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the model; MLflow's autolog does after `fit`."""
        self.model.save(*args, **kwargs)

    def configure_callbacks(self) -> list:
        """Returns none."""
        return []

    def describe_arguments(self) -> dict[str, Any]:
        """Returns what identifies the model in a run: its class, name and the settings of its optimizers."""
        return describe_model(self.model, self.name_of_runs)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The model's layers."""
        return self.model.layers

    @property
    def distribute_strategy(self) -> tf.distribute.Strategy:
        """The strategy that the model was made under."""
        return self.model.distribute_strategy

    @property
    def fixed_strategy(self) -> tf.distribute.Strategy:
        """The strategy that the model was made under."""
        return self.distribute_strategy

    @property
    def usable(self) -> bool:
        """True: the model has weights."""
        return True

    def require_replicas(self, number: int, devices: Any) -> None:
        """Raises ValueError if the model was made under another strategy than the Trainer's."""
        built = num_replicas(self.distribute_strategy)
        under = "no strategy" if built == 1 else f"a strategy of {built} replicas"
        expected = (
            f"{built}, as the model was built under {under}. For several devices, build and compile it in "
            "`with strategy.scope():` of a tf.distribute.MirroredStrategy, and give that as Trainer(strategy=strategy)"
        )
        require(number == built, "devices", expected, devices)
