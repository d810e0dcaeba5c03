"""Tasks of a few units, and one export of all their endpoints: one other process serves all."""

import contextlib

import keras

from helpers.kill_server import TASKS
from lightkeras.export import reader
from lightkeras.runs import state


class Bundle:
    """Several tasks as one, their endpoints named TASK__ENDPOINT.

    Args:
        tasks: Built tasks, by name.
    """

    built = True

    def __init__(self, tasks):
        self.tasks = tasks

    def exports(self):
        return {f"{task}__{name}": e for task, one in self.tasks.items() for name, e in one.exports().items()}


def built(name):
    """A task of a few units that is built; its weights are drawn."""
    make_task, make_data, _ = TASKS[name]
    task, data = make_task(), make_data()
    data.setup("fit")
    keras.utils.set_random_seed(0)
    state.build(task, data, data.train_dataset().element_spec)
    return task


def call_here(folder, form, inputs, imports=()):
    """Stands in for the other process: reads the export in this one."""
    calls = {}
    for (endpoint, call, name), value in inputs.items():
        calls.setdefault((endpoint, call), {})[name] = value
    functions = reader.OPENERS[form](folder, [endpoint for endpoint, _ in calls])
    outputs = {}
    for (endpoint, call), given in calls.items():
        outputs |= {(endpoint, call, name): value for name, value in functions[endpoint](given).items()}
    return outputs, {"seconds": {}, "imported": []}


@contextlib.contextmanager
def unchecked(monkeypatch):
    """Lets exports be compared in this process."""
    with monkeypatch.context() as patched:
        patched.setattr("lightkeras.export.check.call_elsewhere", call_here)
        yield
