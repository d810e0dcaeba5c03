"""One test for each private name of Keras, TensorFlow and KerasTuner: a release that renames one breaks here."""

import inspect
import json
import sys
from concurrent import futures

import grpc
import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config, ops

from lightkeras.distribution.launch import free_ports
from lightkeras.distribution.strategies import make_strategy
from lightkeras.utils import internals


def mirrored() -> tf.distribute.Strategy:
    return make_strategy(2)  # the one of the process: a second one would number its collectives from the start


def dense(**arguments) -> keras.layers.Layer:
    layer = keras.layers.Dense(2, **arguments)
    layer.build((None, 3))
    return layer


def sgd(layer: keras.layers.Layer, **arguments) -> keras.optimizers.Optimizer:
    optimizer = keras.optimizers.SGD(1.0, **arguments)
    optimizer.build(layer.trainable_variables)
    return optimizer


def test_random_state():
    keras.utils.set_random_seed(5)
    drawn = float(tf.random.uniform([])), float(keras.random.uniform([]))
    keras.utils.set_random_seed(5)
    state = internals.random_state()
    assert (float(tf.random.uniform([])), float(keras.random.uniform([]))) == drawn
    keras.utils.set_random_seed(6)
    internals.set_random_state(state)
    assert float(tf.random.uniform([])) == drawn[0]


def test_set_random_state():
    tf.random.set_seed(7)
    tf.random.uniform([])
    state = internals.random_state()
    second = float(tf.random.uniform([]))
    tf.random.set_seed(8)
    internals.set_random_state(state)
    assert float(tf.random.uniform([])) == second


def test_every_name_has_a_test():
    names = {name for name, value in vars(internals).items() if inspect.isroutine(value) or inspect.isclass(value)}
    ours = {name for name in names if getattr(internals, name).__module__ == internals.__name__ and name[0] != "_"}
    assert {f"test_{name}" for name in ours} <= set(globals())


# ---- Keras: layers


def test_flatten_layers():
    inner = keras.layers.Dropout(0.5)
    outer = keras.Sequential([keras.Sequential([inner])])
    assert outer in internals.flatten_layers(outer) and inner in internals.flatten_layers(outer)


def test_seed_generators():
    dropout = keras.layers.Dropout(0.5)
    assert internals.seed_generators(dropout) == [dropout.seed_generator]
    assert internals.seed_generators(keras.Sequential([dropout])) == []  # not those of the layers inside


def test_own_metrics():
    layer = keras.layers.Layer()
    layer.one, layer.more = keras.metrics.Mean("a"), {"list": [keras.metrics.Mean("b")]}
    layer.inner = keras.layers.Layer()
    layer.inner.other = keras.metrics.Mean("c")
    assert [metric.name for metric in internals.own_metrics(layer)] == ["a", "b"]


def test_metric_direction():
    found = [keras.metrics.AUC(), keras.metrics.MeanSquaredError(), keras.metrics.Mean()]
    assert [internals.metric_direction(metric) for metric in found] == ["max", "min", None]


def test_added_losses():
    layer = dense(activity_regularizer="l2")
    layer(tf.ones((1, 3)))
    (loss,) = internals.added_losses(layer)
    assert float(loss) > 0


def test_clear_losses():
    layer = dense(activity_regularizer="l2")
    layer(tf.ones((1, 3)))
    internals.clear_losses(layer)
    assert internals.added_losses(layer) == [] == layer.losses


def test_to_snake_case():
    assert internals.to_snake_case("TextGeneration") == "text_generation"
    assert dense().name.startswith("dense")  # Keras names layers by the same function


# ---- Keras: optimizers


def test_learning_rate_variable():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    assert internals.learning_rate_variable(keras.optimizers.SGD(schedule)) is schedule
    assert float(internals.learning_rate_variable(keras.optimizers.SGD(0.5))) == 0.5


def test_weights_and_averages():
    layer = dense()
    assert internals.weights_and_averages(sgd(layer)) == []
    optimizer = sgd(layer, use_ema=True, ema_momentum=0.5)
    for _ in range(2):
        optimizer.apply([tf.ones((3, 2)), tf.ones((2,))])
    (kernel, _), (bias, average) = internals.weights_and_averages(optimizer)
    assert kernel is layer.kernel and bias is layer.bias
    np.testing.assert_array_equal(np.asarray(average), [-1.5, -1.5])  # of -1 and -2


def test_leave_averages_alone():
    """`fit()` ends with `finalize_variable_values`, which would put the averages in the place of the weights."""
    model = keras.Sequential([keras.Input((3,)), dense(kernel_initializer="ones")])
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.9)
    assert callable(optimizer.finalize_variable_values)
    internals.leave_averages_alone(optimizer)
    model.compile(optimizer, "mse", run_eagerly=True)
    model.fit(np.ones((1, 3)), np.ones((1, 2)), epochs=2, verbose=0)
    weights = [np.asarray(weight) for weight, _ in internals.weights_and_averages(optimizer)]
    averages = [np.asarray(average) for _, average in internals.weights_and_averages(optimizer)]
    assert any(np.abs(weight - average).max() > 0.1 for weight, average in zip(weights, averages, strict=True))


@pytest.mark.parametrize("reduced", [False, True])
def test_expect_reduced_gradients(reduced):
    """The optimizer would add up the gradients of both replicas; ours have been added up before."""
    with (strategy := mirrored()).scope():
        layer = dense()
        optimizer = sgd(layer)
    if reduced:
        internals.expect_reduced_gradients(optimizer)
    strategy.run(lambda: optimizer.apply([tf.ones((3, 2)), tf.ones((2,))]))
    np.testing.assert_array_equal(np.asarray(layer.bias), [-1.0, -1.0] if reduced else [-2.0, -2.0])


# ---- TensorFlow: graphs and strategies


def test_scratch_graph():
    with internals.scratch_graph("name"):
        inside = tf.constant(1.0) + 1.0
        variable = tf.Variable(lambda: 3.0)
    assert not hasattr(inside, "numpy") and inside.graph.name == "name"
    assert float(variable) == 3.0  # created outside of it


def test_placeholder():
    with internals.scratch_graph("name"):
        tensor = internals.placeholder(tf.TensorSpec((None, 2), tf.int32))
    assert tensor.shape.as_list() == [None, 2] and tensor.dtype == tf.int32


def test_dropping_custom_gradients():
    @tf.custom_gradient
    def doubled(x):
        return 2 * x, lambda upstream: 2 * upstream

    def gradients():
        return {name for name in ops.gradient_registry._registry if name.startswith("CustomGradient-")}

    tf.function(doubled).get_concrete_function(tf.constant(1.0))
    before = gradients()
    assert before
    with internals.dropping_custom_gradients():
        tf.function(lambda x: doubled(x) + 1).get_concrete_function(tf.constant(1.0))
        assert gradients() > before
    assert gradients() == before


def test_supports_no_merge_call():
    assert internals.supports_no_merge_call() is True  # no strategy
    with mirrored().scope():
        assert internals.supports_no_merge_call() is False  # variables of logical CPUs are updated by merge calls


def test_has_workers():
    assert internals.has_workers(tf.distribute.get_strategy()) is False
    assert internals.has_workers(mirrored()) is False


def test_input_context():
    """Runs of two workers use it; here, that the strategy of workers has the name."""
    extended = sys.modules[tf.distribute.MultiWorkerMirroredStrategy.__module__].CollectiveAllReduceExtended
    assert callable(extended._make_input_context) and callable(extended._in_multi_worker_mode)
    with pytest.raises(AttributeError, match="_make_input_context"):
        internals.input_context(mirrored())  # it has no workers


def test_expand_slurm_hosts():
    assert internals.expand_slurm_hosts("n[1-2]", "2(x2)") == [("n1", 2), ("n2", 2)]


def test_graph_class():
    made = []
    tf.function(lambda: made.append(type(tf.compat.v1.get_default_graph())))()
    assert made == [internals.graph_class()]


def test_CompleteModel():
    class Model(internals.CompleteModel):
        def call(self, x):
            raise AssertionError("called to be built")

        def train_step(self, batch):
            return {"loss": tf.constant(1.0)}

    model = Model()
    model.compile("sgd", run_eagerly=True)
    assert "_maybe_symbolic_build" in dir(keras.Model)
    data = tf.data.Dataset.from_tensors(tf.constant(["text"]))
    assert model.fit(data, shuffle=False, verbose=0).epoch == [0]


def test_SynchronousCallbackList():
    callbacks = internals.SynchronousCallbackList([keras.callbacks.History()])
    assert "_configure_async_dispatch" in dir(keras.callbacks.CallbackList)
    assert not getattr(callbacks, "_async_train", False)


def test_profiles(tmp_path):
    for batches, profiles in ((0, False), (2, True), ((2, 3), True)):
        assert internals.profiles(keras.callbacks.TensorBoard(tmp_path, profile_batch=batches)) is profiles


def test_save_backup(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    callback = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    callback.set_model(model)
    internals.save_backup(callback)
    assert any((tmp_path / "backup").iterdir())


# ---- KerasTuner


def search(kind: str, **arguments):
    """An oracle over one parameter, and the client of its chief."""
    space = keras_tuner.HyperParameters()
    space.Choice("units", [1, 2, 3])
    return getattr(keras_tuner.oracles, kind)(objective="val_loss", hyperparameters=space, **arguments)


def test_is_declared():
    space = keras_tuner.HyperParameters()
    space.Choice("units", [1, 2])
    with space.conditional_scope("units", [2]):
        space.Float("rate", 0.0, 1.0)
    assert internals.is_declared(space, "units") and internals.is_declared(space, "rate")
    assert not internals.is_declared(space, "depth")


def test_disable_saving(tmp_path):
    oracle = search("RandomSearchOracle", max_trials=2)
    internals.disable_saving(oracle)
    oracle._set_project_dir(str(tmp_path), "search")
    oracle.create_trial("tuner0")
    assert not list(tmp_path.rglob("*.json"))


def test_trials_to_retry(tmp_path):
    oracle = search("RandomSearchOracle", max_trials=2)
    internals.disable_saving(oracle)
    first = oracle.create_trial("tuner0").trial_id
    internals.trials_to_retry(oracle).append(first)
    assert oracle.create_trial("tuner1").trial_id == first


def test_bayesian_state():
    oracle = search("BayesianOptimizationOracle", max_trials=2)
    state = internals.bayesian_state(oracle)
    assert json.loads(json.dumps(state)) == state and state == internals.bayesian_state(oracle)


def test_set_bayesian_state():
    one, two = (search("BayesianOptimizationOracle", max_trials=2, seed=seed) for seed in (1, 2))
    assert internals.bayesian_state(one) != internals.bayesian_state(two)
    internals.set_bayesian_state(two, internals.bayesian_state(one))
    assert internals.bayesian_state(one) == internals.bayesian_state(two)


def test_grid_state():
    oracle = search("GridSearchOracle")
    internals.disable_saving(oracle)
    oracle.create_trial("tuner0")
    state = internals.grid_state(oracle)
    assert json.loads(json.dumps(state)) == state and state["order"]["memory"] == ["0000"]


def test_set_grid_state():
    one, two = search("GridSearchOracle"), search("GridSearchOracle")
    internals.disable_saving(one)
    one.create_trial("tuner0")
    internals.set_grid_state(two, internals.grid_state(one))
    assert internals.grid_state(two) == internals.grid_state(one)


@pytest.mark.parametrize(("name", "role"), [("chief", "chief"), ("tuner0", "worker"), (None, None)])
def test_tuner_role(monkeypatch, name, role):
    variables = {"TUNER_ID": name, "ORACLE_IP": "127.0.0.1", "ORACLE_PORT": "1"}
    for variable, value in variables.items():
        if name:
            monkeypatch.setenv(f"KERASTUNER_{variable}", value)
        else:
            monkeypatch.delenv(f"KERASTUNER_{variable}", raising=False)
    assert internals.tuner_role() == role


@pytest.fixture
def chief(monkeypatch):
    """A server that answers for an oracle of one trial, and the client of a worker."""
    oracle = search("RandomSearchOracle", max_trials=1)
    internals.disable_saving(oracle)
    server, (port,) = grpc.server(futures.ThreadPoolExecutor(1)), free_ports(1)
    internals.add_oracle_service(server, oracle)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    for variable, value in {"TUNER_ID": "tuner0", "ORACLE_IP": "127.0.0.1", "ORACLE_PORT": str(port)}.items():
        monkeypatch.setenv(f"KERASTUNER_{variable}", value)
    yield internals.oracle_client(oracle)
    server.stop(None)


def test_add_oracle_service(chief):
    assert chief.create_trial("tuner0").trial_id == "0"


def test_oracle_client(chief):
    trial = chief.create_trial("tuner0")
    assert trial.hyperparameters.values["units"] in (1, 2, 3) and chief.get_trial(trial.trial_id).trial_id == "0"


def test_ask_for_trial(chief):
    chief.create_trial("tuner0")
    assert internals.ask_for_trial(chief, "0", timeout=10.0) is None
    with pytest.raises(grpc.RpcError):
        internals.ask_for_trial(chief, "7", timeout=10.0)


KEEPERS = (keras.layers.Normalization, keras.layers.StringLookup, lambda: keras.layers.Discretization(num_bins=2))
NUMERIC = (lambda: keras.layers.Dense(1), lambda: keras.layers.Conv2D(1, 1), lambda: keras.layers.Embedding(1, 1))


class Own(keras.layers.Dense):
    def load_own_variables(self, store):
        pass


def test_has_own_state():
    assert all(internals.has_own_state(make()) for make in (*KEEPERS, lambda: Own(1)))
    assert not any(internals.has_own_state(make()) for make in (*NUMERIC, keras.Sequential))


def test_has_own_build_config():
    assert internals.has_own_build_config(keras.layers.Normalization())
    assert not any(internals.has_own_build_config(make()) for make in (*NUMERIC, keras.Sequential))


def test_seed_states():
    model = keras.Sequential([keras.layers.Dropout(0.5, seed=3), keras.layers.Dense(1)])
    (state,) = internals.seed_states(model)
    assert state is model.layers[0].seed_generator.state


def test_names_from_the_start():
    keras.layers.Dense(1)
    before = keras.layers.Dense(1).name
    with internals.names_from_the_start():
        names = [keras.layers.Dense(1).name for _ in range(2)]
    assert names == ["dense", "dense_1"]
    assert keras.layers.Dense(1).name not in (before, *names)  # a model may hold all of them


def test_current_graph():
    assert internals.current_graph() is None
    with internals.scratch_graph("here"):
        assert internals.current_graph().name == "here"


def _nested(outer):
    """The graphs that are traced within `outer`: in a loop in a function, and in a branch."""
    found = []

    def note(*values):
        found.append(internals.graphs_within(outer()))
        return values

    @tf.function(autograph=False)
    def own():
        tf.while_loop(lambda i: i < 2, lambda i: note(i + 1), (0,))
        return tf.constant(0)

    @tf.function(autograph=False)
    def whole(x):
        found.append(internals.graphs_within(outer()))
        tf.cond(x > 0, lambda: note(x), lambda: (x,))
        return own()

    whole(tf.constant(1.0))
    return found


def test_graphs_within():
    assert internals.graphs_within(None) == []
    assert [len(graphs) for graphs in _nested(lambda: None)] == [1, 2, 3]


def test_is_function_graph():
    kinds = [[internals.is_function_graph(graph) for graph in graphs] for graphs in _nested(lambda: None)]
    assert kinds == [[True], [False, True], [False, True, True]]


def test_concat_replicas():
    strategy = mirrored()
    parts = strategy.experimental_distribute_values_from_function(
        lambda context: tf.fill((2, 1), context.replica_id_in_sync_group)
    )
    joined = internals.concat_replicas({"a": parts}, strategy)
    assert joined["a"].numpy().tolist() == [[0], [0], [1], [1]]


# ---- plain Keras models


def test_used_variables():
    read, unread = tf.Variable(1.0), tf.Variable(2.0)
    with internals.scratch_graph("try") as graph:
        read * 2.0
    assert [variable is read for variable in internals.used_variables(graph)] == [True]
    assert unread.numpy() == 2


def test_placeholders():
    with internals.scratch_graph("try"):
        dense, none, ragged = internals.placeholders(
            (tf.TensorSpec([None, 2]), None, tf.RaggedTensorSpec([None, None]))
        )
    assert dense.shape.as_list() == [None, 2] and none is None
    assert isinstance(ragged, tf.RaggedTensor)


def test_operations():
    with internals.scratch_graph("try") as graph:
        tf.function(lambda: tf.random.normal([2]))()
    assert "RandomStandardNormal" in [operation.type for operation in internals.operations(graph)]


def test_kept_random_state():
    keras.utils.set_random_seed(3)
    with internals.kept_random_state():
        first = tf.random.normal([3]).numpy()
    assert tf.random.normal([3]).numpy().tolist() == first.tolist()


def test_global_seed_generators():
    keras.utils.set_random_seed(3)
    assert internals.global_seed_generators() == []
    keras.random.normal([1])
    assert len(internals.global_seed_generators()) == 1


def test_a_callback_list_gives_its_history():
    history, model = keras.callbacks.History(), keras.Sequential()
    internals.SynchronousCallbackList([history]).give_history(model)
    assert model.history is history


def test_swap_ema_weights_knows_whether_it_has_swapped():
    assert getattr(keras.callbacks.SwapEMAWeights(), internals.SWAPPED) is False


def test_shuffles(monkeypatch):
    data = tf.data.Dataset.range(4)
    with_seed, fixed = data.shuffle(4, seed=1), data.shuffle(4, seed=2, reshuffle_each_iteration=False).batch(2)
    options = tf.data.Options()
    assert internals.shuffles(data.map(abs)) == []
    assert internals.shuffles(tf.data.Dataset.zip(with_seed, fixed).with_options(options)) == [
        (True, True),
        (True, False),
    ]
    tf.random.set_seed(None)
    monkeypatch.setattr(config, "is_op_determinism_enabled", lambda: False)  # an earlier test may have said so
    assert internals.shuffles(data.shuffle(4).prefetch(1)) == [(False, True)]


def test_called_graphs():
    with internals.scratch_graph("graph") as graph:
        x = tf.ones((2, 2))
        tf.function(lambda x: x @ x)(x)
        tf.cond(x[0, 0] > 0, lambda: x, lambda: -x)
    call, branch = (
        next(one for one in graph.get_operations() if kind in one.type) for kind in ("PartitionedCall", "If")
    )
    (called,) = internals.called_graphs(call, "f")
    assert "MatMul" in [operation.type for operation in called.get_operations()]
    assert len(internals.called_graphs(branch, "then_branch")) == 1


def test_trace_planes(tmp_path):
    path = tmp_path / "host.xplane.pb"
    path.write_bytes(bytes.fromhex("0a0712052f686f7374"))  # field 1, a plane whose field 2, its name, is "/host"
    assert [plane.name for plane in internals.trace_planes(path)] == ["/host"]
