"""One process, two logical CPUs: what MirroredStrategy needs where there is no GPU."""

# isort: off
import lightkeras  # noqa: F401  (before TensorFlow: it sets the environment)
import pytest
import tensorflow as tf
# isort: on

CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture
def root(tmp_path):
    """A folder for runs."""
    return str(tmp_path / "runs")
