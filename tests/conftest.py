"""One process, two logical CPUs: what MirroredStrategy needs where there is no GPU."""

import gc
import os

# what is compiled runs a few times: LLVM takes half the time that XLA needs, and its speed is of no use here
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")

# isort: off
import lightkeras  # noqa: F401  (before TensorFlow: it sets the environment)
import keras
import pytest
import tensorflow as tf
# isort: on

from helpers import costs

CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)
PATHS = [os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, PATHS))  # child processes import `helpers` too
LONGEST_FIRST = (  # so that two processes with `--dist loadfile` end together
    "tests/test_invariance.py",
    "tests/tasks/captioning/test_task.py",
    "tests/lightkeras/tuning/test_tuner.py",
    "tests/lightkeras/keras_models/test_patterns.py",
    "tests/lightkeras/runs/test_kill.py",
    "tests/lightkeras/random/test_promise.py",
    "tests/lightkeras/export/test_export.py",
    "tests/test_readme.py",
    "tests/lightkeras/data/test_resume.py",
    "tests/benchmarks/test_harness.py",
)

OPTIMIZED = (  # files whose graphs TensorFlow optimizes before they run, as it does for users
    "tests/test_invariance.py",
    "tests/lightkeras/keras_models/test_patterns.py",
    "tests/lightkeras/runs/test_kill.py",
    "tests/lightkeras/runs/test_portable.py",
    "tests/lightkeras/training/test_compiled_update.py",
    "tests/lightkeras/training/test_layer_state.py",
    "tests/lightkeras/training/test_step.py",
    "tests/tasks/captioning/test_features.py",
)

SMOKE = (  # files and tests of `pytest -m smoke`
    "tests/test_smoke.py",
    "tests/test_architecture.py",
    "tests/lightkeras/test_losses.py",
    "tests/lightkeras/test_package.py",
    "tests/lightkeras/test_schedules.py",
    "tests/lightkeras/metrics/test_sums.py",
    "tests/lightkeras/random/test_draws.py",
    "tests/lightkeras/random/test_keys.py",
    "tests/lightkeras/random/test_threefry.py",
    "tests/lightkeras/random/test_promise.py::test_check_compares_what_is_drawn_by_address",
    "tests/lightkeras/utils/test_files.py",
    "tests/lightkeras/utils/test_hparams.py",
    "tests/lightkeras/utils/test_messages.py",
    "tests/lightkeras/cli/test_commands.py::test_the_offline_preset_trains",
)


@pytest.fixture(scope="module", autouse=True)
def graph_optimizer(request):
    """Switches the optimization of graphs off, except in `OPTIMIZED`: it takes a third of a short training's time.

    In these it is as in a new process, whatever a deterministic run of another file left.
    """
    off = request.node.nodeid not in OPTIMIZED
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": off, "arithmetic_optimization": True})


@pytest.fixture
def root(tmp_path):
    """A folder for runs."""
    return str(tmp_path / "runs")


def pytest_addoption(parser):
    parser.addoption("--costs", metavar="FILE", help="append a line for each test file: its seconds and peak memory")


def pytest_configure(config):
    config.option.loadscopereorder = False  # xdist would start the files with the most tests


@pytest.hookimpl(tryfirst=True)  # before `-m` deselects
def pytest_collection_modifyitems(items):
    for item in items:
        if item.nodeid.startswith(SMOKE):
            item.add_marker(pytest.mark.smoke)
    rank = {path: number for number, path in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.location[0], len(rank)))  # stable: the order within files stays


def pytest_collection_finish():
    """What is imported stays: collections of garbage, many in a search, pass over it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)  # objects between collections: tracing makes many, and keeps them


def pytest_terminal_summary(terminalreporter, config):
    path = config.getoption("--costs")
    if path and os.path.exists(path):
        terminalreporter.section("processor time")
        terminalreporter.write("\n".join([*costs.costliest(path), ""]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    meter = item.session.stash.setdefault(costs.METER, costs.Meter())
    result = yield
    if nextitem is None or nextitem.path != item.path:
        keras.utils.clear_session(free_memory=False)
        costs.MEMORY.free()
        meter.write(item.config.getoption("--costs"), item.location[0])
    return result
