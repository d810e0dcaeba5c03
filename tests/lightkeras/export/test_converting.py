"""ONNX and LiteRT, where their extras are installed."""

import importlib.util

import keras
import pytest
import tensorflow as tf
from helpers.exporting import Bundle, built

import lightkeras as lk
from lightkeras.export import converting

NEEDED = {"onnx": "tf2onnx", "litert": "ai_edge_litert"}
ENDPOINTS = {
    "onnx": {"text_generation__generate_greedy", "text_generation__step", "dcgan__image"},
    "litert": {"text_generation__step", "dcgan__image"},
}


@pytest.mark.parametrize("form", NEEDED)
def test_steps_and_loops_run_without_tensorflow(form, tmp_path):
    if importlib.util.find_spec(NEEDED[form]) is None:
        pytest.skip(f"needs the extra `{form}`")
    bundle = Bundle({name: built(name) for name in ("text_generation", "dcgan")})
    compared = lk.export.export(bundle, tmp_path / "new", form)
    assert set(compared.differences) == ENDPOINTS[form] and max(compared.differences.values()) <= 1e-5
    assert lk.export.read_export(tmp_path / "new")["format"] == form


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
    with pytest.raises(lk.utils.ArgumentError, match=r"one of those with an endpoint: saved_model\. Received"):
        lk.export.export(model, tmp_path / "new", "onnx")


def test_an_endpoint_that_does_not_convert_is_named(tmp_path, monkeypatch):
    def fail(*arguments, **named):
        raise ValueError("no operation for\n  Frobnicate")

    monkeypatch.setattr(converting.saved_model, "write", fail)
    endpoint = lk.export.Endpoint(lambda x: {"y": x}, {"x": tf.TensorSpec((None,))})
    with pytest.raises(lk.export.ExportError, match=r'"step" to convert.*no operation for Frobnicate.*saved_model'):
        converting.write_litert(tmp_path, {"step": endpoint})
