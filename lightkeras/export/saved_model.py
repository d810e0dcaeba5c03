"""Writes endpoints as a SavedModel, which TensorFlow reads without Keras and without lightkeras."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from lightkeras.export.endpoints import Endpoint


def write(folder: Path, endpoints: Mapping[str, Endpoint]) -> None:
    """Writes every endpoint as a method `loaded.NAME` and as a signature.

    Args:
        folder: A new folder.
        endpoints: The endpoints by name.
    """
    root = tf.Module()
    root.tracked = [thing for endpoint in endpoints.values() for thing in endpoint.tracked]
    signatures, variables = {}, {}
    for name, endpoint in endpoints.items():
        function = endpoint.trace()
        signatures[name] = function.get_concrete_function()
        setattr(root, name, function)
        variables |= {id(variable): variable for variable in signatures[name].variables}
    root.weights = list(variables.values())
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)  # an export is not trained
    tf.saved_model.save(root, str(folder), signatures=signatures, options=options)
