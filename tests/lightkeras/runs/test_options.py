"""The options of a run by their full names."""

from lightkeras.runs.options import flatten_options


def test_flat_options():
    config = {"task": {"class_path": "a.B", "init_args": {"units": 1, "nested": {"rate": 0.1}, "none": {}}}, "x": [1]}
    flat = {"task": "a.B", "task.units": 1, "task.nested.rate": 0.1, "task.none": {}, "x": [1]}
    assert dict(flatten_options(config)) == flat
    assert dict(flatten_options({"model": {"function": "a:b", "init_args": None}})) == {"model": "a:b"}
    assert dict(flatten_options({"task": {"a": 1, "init_args": [2]}})) == {"task.a": 1, "task.init_args": [2]}
