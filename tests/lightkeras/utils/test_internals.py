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

from lightkeras.utils import internals


def mirrored() -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def dense(**arguments) -> keras.layers.Layer:
    layer = keras.layers.Dense(2, **arguments)
    layer.build((None, 3))
    return layer


def sgd(layer: keras.layers.Layer, **arguments) -> keras.optimizers.Optimizer:
    optimizer = keras.optimizers.SGD(1.0, **arguments)
    optimizer.build(layer.trainable_variables)
    return optimizer


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


class Strings(internals.WithoutSymbolicBuild, keras.Model):
    """A model of strings, from which Keras' own `fit()` would make a symbolic batch under a strategy."""

    def train_step(self, data):
        return {"loss": tf.reduce_sum(tf.cast(tf.strings.length(data[0]), tf.float32))}


def test_WithoutSymbolicBuild():
    assert callable(keras.Model._maybe_symbolic_build)
    with mirrored().scope():
        model = Strings()
    model.compile(run_eagerly=True)
    model.fit(tf.data.Dataset.from_tensors((tf.constant(["abc", "abc"]),)), shuffle=False, verbose=0)
    assert model.history.epoch == [0]


class InTurn(internals.WithoutAsyncDispatch, keras.callbacks.CallbackList):
    """Keras' list without its threads."""


def test_WithoutAsyncDispatch():
    assert keras.callbacks.CallbackList([keras.callbacks.History()])._async_train is True
    assert InTurn([keras.callbacks.History()])._async_train is False


def test_write_backup(tmp_path):
    callback = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    callback.set_model(model)
    callback._current_epoch = callback._last_batch_seen = 1
    internals.write_backup(callback)
    assert any((tmp_path / "backup").iterdir())


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


def test_on_new_graph(monkeypatch):
    graphs = []
    graph = internals.tf.__internal__.FuncGraph
    monkeypatch.setattr(graph, "__init__", graph.__init__)  # put back at the end
    internals.on_new_graph(lambda: graphs.append(1))
    tf.function(lambda x: x + 1)(tf.constant(1))
    assert len(graphs) == 1


def test_placeholder():
    with internals.scratch_graph("name"):
        tensor = internals.placeholder(tf.TensorSpec((None, 2), tf.int32))
    assert tensor.shape.as_list() == [None, 2] and tensor.dtype == tf.int32


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


# ---- KerasTuner


def oracle(kind: type, **arguments) -> keras_tuner.Oracle:
    space = keras_tuner.HyperParameters()
    space.Int("units", 1, 4)
    space.Float("rate", 0.0, 1.0)
    found = kind(objective=keras_tuner.Objective("loss", "min"), max_trials=9, hyperparameters=space, **arguments)
    internals.disable_saving(found)
    return found


def run_trials(oracle: keras_tuner.Oracle, count: int) -> list[dict]:
    """Runs `count` trials whose score is the number of units, and returns their values."""
    values = []
    for number in range(count):
        trial = oracle.create_trial(f"tuner {number}")
        values.append(trial.hyperparameters.values)
        oracle.update_trial(trial.trial_id, {"loss": float(trial.hyperparameters.values["units"])})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return values


def _copy(state: dict) -> dict:
    return json.loads(json.dumps(state))


def test_is_declared():
    space = keras_tuner.HyperParameters()
    kind = space.Choice("kind", ["a", "b"])
    with space.conditional_scope("kind", ["b"]):
        space.Int("inactive", 1, 2)
    assert kind == "a"
    assert [internals.is_declared(space, name) for name in ("kind", "inactive", "other")] == [True, True, False]


def test_disable_saving(tmp_path):
    search = oracle(keras_tuner.oracles.RandomSearchOracle)
    search._set_project_dir(str(tmp_path), "project")
    before = sorted(tmp_path.rglob("*"))
    run_trials(search, 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_trials_to_retry():
    search = oracle(keras_tuner.oracles.RandomSearchOracle)
    trial = search.create_trial("lost")
    internals.trials_to_retry(search).append(search.ongoing_trials.pop("lost").trial_id)
    assert search.create_trial("another").trial_id == trial.trial_id


def test_set_bayesian_state():
    """From the same state, the same values follow."""
    kind = keras_tuner.oracles.BayesianOptimizationOracle
    whole, other = oracle(kind, seed=1, num_initial_points=2), oracle(kind, seed=1, num_initial_points=2)
    run_trials(whole, 3)
    run_trials(other, 3)
    state = _copy(internals.bayesian_state(whole))
    other._random_state.random()  # a number of its own
    assert internals.bayesian_state(other) != state
    internals.set_bayesian_state(other, state)
    assert internals.bayesian_state(other) == state
    assert run_trials(other, 1) == run_trials(whole, 1)


def test_bayesian_state():
    search = oracle(keras_tuner.oracles.BayesianOptimizationOracle, seed=1)
    kind, keys, position, _, _ = internals.bayesian_state(search)["random_state"]
    expected = np.random.RandomState(1).get_state()
    assert (kind, keys, position) == (expected[0], expected[1].tolist(), expected[2])


def test_grid_state():
    search = oracle(keras_tuner.oracles.GridSearchOracle)
    run_trials(search, 2)
    state = internals.grid_state(search)
    assert state["order"]["memory"] == list(search.trials) == search.end_order
    assert _copy(state) == state


def test_set_grid_state():
    """A grid that continues from the state of another visits the rest of the grid in the same order."""
    whole, resumed = (oracle(keras_tuner.oracles.GridSearchOracle) for _ in range(2))
    run_trials(whole, 2)
    state, oracle_state = _copy(internals.grid_state(whole)), _copy(whole.get_state())
    trials = {name: type(trial).from_state(trial.get_state()) for name, trial in whole.trials.items()}
    following = run_trials(whole, 3)
    resumed.trials = trials
    resumed.set_state(oracle_state)
    internals.set_grid_state(resumed, state)
    assert run_trials(resumed, 3) == following


def test_tuner_role(monkeypatch):
    for name in ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert internals.tuner_role() is None
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "8000")
    for name, role in (("chief", "chief"), ("tuner0", "worker")):
        monkeypatch.setenv("KERASTUNER_TUNER_ID", name)
        assert internals.tuner_role() == role


@pytest.fixture
def chief(monkeypatch):
    """An oracle, a gRPC server that answers for it, and a client of that server."""
    search = oracle(keras_tuner.oracles.RandomSearchOracle)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    internals.add_oracle_service(server, search)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "tuner0")
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(port))
    yield search, internals.oracle_client(search)
    server.stop(None)


def test_oracle_client(chief):
    search, client = chief
    assert client.create_trial("tuner0").trial_id == search.ongoing_trials["tuner0"].trial_id


def test_add_oracle_service(chief):
    search, client = chief
    assert client.get_space().values == search.get_space().values  # over the server


def test_ask_for_trial(chief):
    search, client = chief
    asked = []
    search.get_trial = lambda trial_id: asked.append(trial_id) or search.trials[trial_id]
    trial = search.create_trial("tuner0")
    internals.ask_for_trial(client, trial.trial_id, timeout=10)
    assert asked == [trial.trial_id]
    with pytest.raises(grpc.RpcError):
        internals.ask_for_trial(client, "unknown", timeout=10)
