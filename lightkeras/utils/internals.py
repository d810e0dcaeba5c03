"""Private names of Keras, TensorFlow and KerasTuner, each behind one function: no other module touches them.

A new release that renames one of them breaks here, and in the test of that name.
"""

import collections
import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.random import seed_generator
from keras.src.utils import rng_utils
from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver
from tensorflow.python.eager import context as tensorflow_context
from tensorflow.python.framework import ops as tensorflow_ops
from tensorflow.tsl.profiler.protobuf import xplane_pb2

SWAPPED = "_ema_weights_in_model"  # of SwapEMAWeights: whether the weights are the averages now

# ---- Keras: layers


def flatten_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layer and all layers in it."""
    return list(layer._flatten_layers())


def seed_generators(layer: keras.layers.Layer) -> list[keras.random.SeedGenerator]:
    """Returns the seed generators that the layer itself owns."""
    return list(layer._seed_generators)


def seed_states(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Returns the states of the seed generators of the layer and of all layers in it."""
    return [generator.state for one in flatten_layers(layer) for generator in seed_generators(one)]


def clear_losses(layer: keras.layers.Layer) -> None:
    """Forgets the losses that layers added in earlier calls."""
    layer._clear_losses()


def added_losses(layer: keras.layers.Layer) -> list[Any]:
    """Returns the losses that the layer itself added (`add_loss`, `activity_regularizer`)."""
    return list(layer._losses)


def own_metrics(layer: keras.layers.Layer) -> list[keras.metrics.Metric]:
    """Returns the metrics that are attributes of the layer itself, or in its lists and dicts."""
    return list(layer._metrics)


def metric_direction(metric: keras.metrics.Metric) -> str | None:
    """Returns "min" or "max", the better direction of a metric, or None where Keras knows none."""
    return {"up": "max", "down": "min"}.get(getattr(metric, "_direction", ""))


def has_own_state(layer: keras.layers.Layer) -> bool:
    """Returns whether the layer's class saves or loads more than variables, by hooks of its own.

    The hooks of Keras' layers for numbers (`Dense`, `Embedding`, convolutions) are about quantized variables.
    """
    hooks = ("save_own_variables", "load_own_variables", "save_assets", "load_assets")
    return isinstance(layer, keras.layers.Discretization) or any(_is_own_hook(layer, hook) for hook in hooks)


def has_own_build_config(layer: keras.layers.Layer) -> bool:
    """Returns whether the layer's class has a `get_build_config` of its own."""
    return _is_own_hook(layer, "get_build_config")


def _is_own_hook(layer: keras.layers.Layer, hook: str) -> bool:
    owner = getattr(getattr(type(layer), hook, None), "__module__", "keras.")
    return not owner.startswith("keras.") or ".preprocessing." in owner


class CompleteModel(keras.Model):
    """A model whose variables all exist before `fit()`: Keras need not build it from a batch.

    Keras' own way of building fails for strings, for models without `call`, and with several workers.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None) -> None:
        """Builds nothing."""


def concat_replicas(outputs: Any, strategy: tf.distribute.Strategy) -> Any:
    """Joins the outputs of all replicas, a structure of tensors (rows, ...), as Keras' `predict` does."""
    return keras.src.backend.tensorflow.trainer.reduce_per_replica(outputs, strategy, reduction="concat")


class SynchronousCallbackList(keras.callbacks.CallbackList):
    """A list that calls its callbacks on the training thread: from another, files would get a later step's weights."""

    def _configure_async_dispatch(self, callbacks) -> None:
        """Dispatches nothing to other threads."""

    def give_history(self, model: keras.Model) -> None:
        """Sets `model.history`, as `fit` does."""
        if self._history is not None:
            model.history = self._history


def profiles(callback: keras.callbacks.TensorBoard) -> bool:
    """Returns whether the callback profiles batches."""
    return callback._should_trace


def save_backup(callback: keras.callbacks.BackupAndRestore) -> None:
    """Saves Keras' own backup now."""
    callback._save_model()


def to_snake_case(name: str) -> str:
    """Converts a class name to Keras' form for layers: `TextGeneration` to `text_generation`."""
    return keras.src.utils.naming.to_snake_case(name)


@contextlib.contextmanager
def names_from_the_start() -> Iterator[None]:
    """Numbers the names of objects made in the `with` block as a new process would: `dense`, `dense_1`, ...

    Two runs in a process whose layers had other names differed in the last bits; with equal names they did not.
    Afterwards, no name that was given, in the block or before, is given again.
    """
    state, key = keras.src.backend.common.global_state, "object_name_uids"
    before = state.get_global_attribute(key) or {}
    state.set_global_attribute(key, collections.defaultdict(int))
    try:
        yield
    finally:
        after = state.get_global_attribute(key) or {}
        merged = {name: max(before.get(name, 0), after.get(name, 0)) for name in {**before, **after}}
        state.set_global_attribute(key, collections.defaultdict(int, merged))


# ---- Keras and TensorFlow: random generators


def random_state() -> tuple:
    """Returns the state of the global random generators of TensorFlow and Keras."""
    context = tensorflow_context.context()
    names = (rng_utils.GLOBAL_RANDOM_SEED, seed_generator.GLOBAL_SEED_GENERATOR)
    drawn = context._rng.getstate() if hasattr(context, "_rng") else None  # None: nothing was seeded or drawn yet
    return (context._seed, drawn), {name: global_state.get_global_attribute(name) for name in names}


def set_random_state(state: tuple) -> None:
    """Sets the generators to a state that `random_state` returned."""
    (seed, position), attributes = state
    context = tensorflow_context.context()
    context._set_global_seed(seed)
    if position is not None:
        context._rng.setstate(position)
    for name, value in attributes.items():
        global_state.set_global_attribute(name, value)


@contextlib.contextmanager
def kept_random_state() -> Iterator[None]:
    """Puts the global generators back after the `with` block; one that it makes stays."""
    before = random_state()
    try:
        yield
    finally:
        state, attributes = before
        made = {name: value for name, value in random_state()[1].items() if attributes.get(name) is None}
        set_random_state((state, {**attributes, **made}))


def global_seed_generators() -> list[keras.random.SeedGenerator]:
    """Returns the generator that unseeded `keras.random` functions draw from; empty where none has drawn yet."""
    generator = global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)
    return [] if generator is None else [generator]


# ---- Keras: optimizers


def learning_rate_variable(optimizer: keras.optimizers.Optimizer) -> Any:
    """Returns the variable or the schedule behind `optimizer.learning_rate`."""
    return optimizer._learning_rate


def weights_and_averages(optimizer: keras.optimizers.Optimizer) -> list[tuple[keras.Variable, keras.Variable]]:
    """Pairs each trained weight with its moving average; empty without `use_ema`."""
    if not optimizer.use_ema:
        return []
    return list(zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True))


def leave_averages_alone(optimizer: keras.optimizers.Optimizer) -> None:
    """Stops Keras from overwriting the weights by their averages at the end of `fit()`."""
    optimizer.finalize_variable_values = lambda variables: None


def expect_reduced_gradients(optimizer: keras.optimizers.Optimizer) -> None:
    """Stops the optimizer from all-reducing the gradients given to `apply`: they are reduced already."""
    optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables


# ---- TensorFlow: graphs and strategies


def graph_class() -> type:
    """Returns the class of the graphs that TensorFlow traces: of functions, and of the parts of loops in them."""
    return tf.__internal__.FuncGraph


@contextlib.contextmanager
def scratch_graph(name: str) -> Iterator[Any]:
    """Traces the `with` block into a graph that is thrown away; variables are created outside of it."""
    with tf.__internal__.FuncGraph(name).as_default() as graph:
        yield graph


@contextlib.contextmanager
def dropping_custom_gradients() -> Iterator[None]:
    """Drops the `tf.custom_gradient`s that are registered within: TensorFlow would keep their graphs for ever.

    A function that was traced within may not be differentiated anew afterwards.
    """
    table = tensorflow_ops.gradient_registry._registry
    before = set(table)
    try:
        yield
    finally:
        for name in set(table) - before:
            if name.startswith("CustomGradient-"):
                del table[name]


def placeholder(spec: tf.TensorSpec) -> tf.Tensor:
    """Creates a symbolic tensor in a `scratch_graph`."""
    return tf.compat.v1.placeholder(spec.dtype, spec.shape)


def used_variables(graph: Any) -> list[tf.Variable]:
    """Returns the variables that a `scratch_graph` reads, in the order in which it captures them."""
    by_handle = {id(v.handle): v for v in graph._watched_variables if hasattr(v, "handle")}
    captured = [by_handle[id(outer)] for outer, _ in graph.captures if id(outer) in by_handle]
    return list({id(variable): variable for variable in captured}.values())


def operations(graph: Any) -> list[Any]:
    """Returns the operations of a graph and of the graphs of functions, loops and branches within it."""
    graphs = [getattr(one, "graph", None) for one in graph._functions.values()]
    return [*graph.get_operations(), *(one for inner in graphs if inner is not None for one in operations(inner))]


def called_graphs(operation: Any, attribute: str) -> list[Any]:
    """Returns the graphs of the functions that an operation calls; a function that has none is left out."""
    called = operation.get_attr(attribute)
    names = [one.name for one in (called if isinstance(called, list) else [called])]
    found = [getattr(operation.graph._functions.get(name), "graph", None) for name in names]
    return [graph for graph in found if graph is not None]


def placeholders(spec: Any) -> Any:
    """Creates a batch of symbolic tensors, ragged and sparse ones too, in a `scratch_graph`."""
    parts = [one and placeholder(one) for one in tf.nest.flatten(spec, expand_composites=True)]
    return tf.nest.pack_sequence_as(spec, parts, expand_composites=True)


def current_graph() -> Any:
    """Returns the graph that is being traced; None where operations run at once."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def graphs_within(outer: Any) -> list[Any]:
    """Returns the graphs of functions, loops and branches that are being traced within `outer`, the innermost first."""
    graphs, graph = [], current_graph()
    while isinstance(graph, tf.__internal__.FuncGraph) and graph is not outer:
        graphs.append(graph)
        graph = graph.outer_graph
    return graphs


def is_function_graph(graph: Any) -> bool:
    """Returns whether the graph is of a `tf.function`: those of loops and branches have classes of their own."""
    return type(graph) is tf.__internal__.FuncGraph


def supports_no_merge_call() -> bool:
    """Returns whether the current strategy updates variables without a merge call."""
    return tf.__internal__.distribute.strategy_supports_no_merge_call()


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether the strategy spans several worker processes."""
    return strategy.extended._in_multi_worker_mode()


def input_context(strategy: tf.distribute.Strategy) -> tf.distribute.InputContext:
    """Returns the input context of this worker."""
    return strategy.extended._make_input_context()


def expand_slurm_hosts(nodes: str, tasks_per_node: str) -> list[tuple[str, int]]:
    """Expands Slurm's short forms: `"n[1-2]", "2(x2)"` to `[("n1", 2), ("n2", 2)]`."""
    read = slurm_cluster_resolver
    return list(zip(read.expand_hostlist(nodes), read.expand_tasks_per_node(tasks_per_node), strict=True))


def shuffles(dataset: tf.data.Dataset) -> list[tuple[bool, bool]]:
    """Returns of each `shuffle` in a data set, but not within functions: whether it has a seed, and reshuffles."""
    found = [one for source in dataset._inputs() for one in shuffles(source)]
    if type(dataset).__name__ == "_ShuffleDataset":
        seeds = tf.get_static_value(dataset._seed), tf.get_static_value(dataset._seed2)
        found.append((seeds != (0, 0), bool(dataset._reshuffle_each_iteration)))
    return found


def trace_planes(path: Any) -> list[Any]:
    """Returns the planes (a machine's threads, or a device) of a profile that TensorFlow wrote: `XPlane` messages."""
    return list(xplane_pb2.XSpace.FromString(path.read_bytes()).planes)


# ---- KerasTuner: spaces, oracles, and messages between processes


def is_declared(space: Any, name: str) -> bool:
    """Returns whether a `HyperParameters` has a parameter of this name, active or not."""
    return space._exists(name, []) or name in space._hps


def disable_saving(oracle: Any) -> None:
    """Stops an oracle from writing files of its own."""
    oracle.save = oracle._save_trial = lambda *arguments: None


def trials_to_retry(oracle: Any) -> list[str]:
    """Returns the oracle's list of trials that run again before any new one; it may be changed."""
    return oracle._retry_queue


def bayesian_state(oracle: Any) -> dict:
    """Returns the random state of a Bayesian oracle, as JSON."""
    kind, keys, position, has_gauss, gauss = oracle._random_state.get_state()
    return {"random_state": [kind, keys.tolist(), position, has_gauss, gauss]}


def set_bayesian_state(oracle: Any, state: dict) -> None:
    """Restores `bayesian_state`."""
    kind, keys, *rest = state["random_state"]
    oracle._random_state.set_state((kind, np.array(keys, np.uint32), *rest))


def grid_state(oracle: Any) -> dict:
    """Returns the order of a grid oracle's trials, as JSON."""
    ordered = oracle._ordered_ids
    following = [[index, ordered._next_index[index]] for index in [*ordered._next_index]]
    order = {"memory": ordered._memory, "next": following, "last": ordered._last_index}
    return {"order": order, "populate_next": oracle._populate_next}


def set_grid_state(oracle: Any, state: dict) -> None:
    """Restores `grid_state`."""
    ordered, order = oracle._ordered_ids, state["order"]
    ordered._memory, ordered._last_index = order["memory"], order["last"]
    ordered._data_to_index = {trial_id: index for index, trial_id in enumerate(ordered._memory)}
    ordered._next_index.update(dict(map(tuple, order["next"])))
    oracle._populate_next = state["populate_next"]


def tuner_role() -> str | None:
    """Returns "chief" or "worker" by KerasTuner's environment variables; None without them."""
    from keras_tuner.src.distribute import utils

    return ("chief" if utils.is_chief_oracle() else "worker") if utils.has_chief_oracle() else None


def add_oracle_service(server: Any, oracle: Any) -> None:
    """Lets a gRPC server answer for an oracle."""
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(oracle), server)


def oracle_client(oracle: Any) -> Any:
    """Returns the client of the chief's oracle, for a worker."""
    from keras_tuner.src.distribute.oracle_client import OracleClient

    return OracleClient(oracle)


def ask_for_trial(client: Any, trial_id: str, timeout: float) -> None:
    """Asks the chief for a trial and ignores the answer.

    Raises:
        grpc.RpcError: There was no answer within `timeout` seconds.
    """
    from keras_tuner.src import protos

    client.stub.GetTrial(protos.get_service().GetTrialRequest(trial_id=trial_id), timeout=timeout)
