"""ONNX and LiteRT, where their extras are installed."""

import importlib.util
import logging
import runpy

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.exporting import Bundle, built

import lightkeras as lk
from lightkeras.export import converting, exporting
from lightkeras.export.loops import search_greedily

NEEDED = {"onnx": "tf2onnx", "litert": "ai_edge_litert"}
STEPS = {
    "text_generation": ("generate_greedy", "step"), "dcgan": ("image",),
    "translation": ("translate_greedy", "encode", "step"), "captioning": ("caption_greedy", "encode", "step"),
}  # fmt: skip
ENDPOINTS = {f"{task}__{name}" for task, names in STEPS.items() for name in names}
MORE = {"onnx": {"dcgan__generate"}, "litert": set()}


@pytest.fixture(scope="module")
def tasks():
    return {name: built(name) for name in STEPS}


@pytest.mark.parametrize("form", NEEDED)
def test_steps_and_loops_run_without_tensorflow(form, tasks, tmp_path, capsys):
    if importlib.util.find_spec(NEEDED[form]) is None:
        pytest.skip(f"needs the extra `{form}`")
    compared = lk.export.export(Bundle(tasks), tmp_path / "new", form)
    assert set(compared.differences) == ENDPOINTS | MORE[form] and max(compared.differences.values()) <= 1e-5
    assert lk.export.read_export(tmp_path / "new")["format"] == form
    runpy.run_path(str(tmp_path / "new" / "read.py"))
    assert "translation__translate_greedy: ids [[" in capsys.readouterr().out


def test_the_greedy_loop_ends_as_the_search_does(tasks):
    """Rows of different lengths, most of whose translations are cut at their greatest length."""
    endpoint = tasks["translation"].exports()["translate_greedy"]
    source = tf.constant([[4, 5, 6, 7, 3], [6, 3, 0, 0, 0], [9, 4, 3, 0, 0]])
    found = endpoint.trace()(source)["ids"]
    np.testing.assert_array_equal(found, tasks["translation"].searcher(source).ids[:, 0])
    assert [np.count_nonzero(row != lk.text.END) for row in found.numpy()][1] <= 14


def test_a_greedy_loop_stops_when_every_row_has_ended():
    """Two rows choose the end, 3, at once: one step of nine is made, and the others are 3 already."""
    called = []

    def next_fn(ids, states):
        called.append(ids)
        return tf.one_hot([3, 3], 5), states, None

    ids = search_greedily(next_fn, [tf.zeros((2, 1))], tf.constant(2), tf.constant([9, 9]), 1, 3, ())
    assert len(called) == 1 and ids.numpy().tolist() == [[3] * 9] * 2


@pytest.mark.parametrize("kind", [keras.layers.GRU, keras.layers.LSTM, lk.layers.GRU])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_recurrent_layer_in_steps(kind, backwards):
    layer = kind(4, return_sequences=True, return_state=True, go_backwards=backwards)
    inputs = tf.constant(np.random.default_rng(0).normal(size=(2, 5, 3)), tf.float32)
    mask = tf.constant([[True] * 5, [True, True, True, False, False]])
    output, *states = layer(inputs, mask=mask)
    found, found_states = lk.export.run_recurrent(layer, inputs, mask)
    np.testing.assert_allclose(found, tf.reverse(output, [1]) if backwards else output, atol=1e-6)
    for ours, theirs in zip(found_states, states, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_missing_extra_is_named_with_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(converting.NEEDED, "onnx", ("no_such_package",))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ImportError, match=r"pip install 'lightkeras\[onnx\]'. Received: no no_such_package"):
        lk.export.export(model, tmp_path / "new", "onnx")


def test_a_format_without_any_endpoint_names_those_that_have_one(tmp_path, monkeypatch):
    monkeypatch.setattr(converting, "NEEDED", {})
    model = Bundle({})
    text = lk.export.Endpoint(lambda x: {"y": x}, {"x": tf.TensorSpec((None,), tf.string)}, [{"x": ["a"]}])
    monkeypatch.setattr(Bundle, "exports", lambda self: {"echo": text})
    with pytest.raises(lk.utils.ArgumentError, match=r"one of those with an endpoint: saved_model, keras\. Received"):
        lk.export.export(model, tmp_path / "new", "onnx")


@pytest.mark.parametrize("form", NEEDED)
def test_an_operation_that_does_not_convert_is_named(form, tmp_path):
    if importlib.util.find_spec(NEEDED[form]) is None:
        pytest.skip(f"needs the extra `{form}`")
    endpoint = lk.export.Endpoint(lambda x: {"y": tf.math.igamma(x, x)}, {"x": tf.TensorSpec((None,))})
    expected = rf'"step" to convert to format=.{form}.\. Received: operations that it lacks, Igamma \(format="saved'
    with pytest.raises(lk.export.ExportError, match=expected):
        exporting.WRITERS[form](tmp_path, {"step": endpoint})


def test_an_error_that_the_converter_only_logs_is_raised():
    with pytest.raises(lk.export.ExportError, match=r'"step" to convert.*Received: Failed to convert node .while'):
        with converting.converting("step", "onnx"):
            logging.getLogger("tf2onnx.tfonnx").error("Failed to convert node %r", "while")
