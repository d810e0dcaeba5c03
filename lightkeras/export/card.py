"""What an export says of itself: facts, a README.md and an example that runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightkeras.export.endpoints import Endpoint

PACKAGES = {"saved_model": "tensorflow", "onnx": "onnxruntime", "litert": "ai-edge-litert", "keras": "keras"}
OPEN = {
    "saved_model": 'import tensorflow as tf\n\nmodel = tf.saved_model.load(folder)\n',
    "onnx": "import numpy as np\nimport onnxruntime\n",
    "litert": "import numpy as np\nfrom ai_edge_litert.interpreter import Interpreter\n",
    "keras": 'import keras\nimport tensorflow as tf\n\n'
    'model = keras.saving.load_model(f"{folder}/model.keras", compile=False)\n',
}  # fmt: skip
CALL = {
    "saved_model": "found = model.{name}({arguments})\n",
    "onnx": 'session = onnxruntime.InferenceSession(f"{{folder}}/{name}.onnx")\n'
    "names = [output.name for output in session.get_outputs()]\n"
    "given = dict({arguments})\n"
    "used = [entry.name for entry in session.get_inputs()]\n"
    "found = dict(zip(names, session.run(names, {{name: given[name] for name in used}})))\n",
    "litert": 'runner = Interpreter(f"{{folder}}/{name}.tflite").get_signature_runner("{name}")\n'
    "found = runner({arguments})\n",
    "keras": 'found = model.exports()["{name}"].trace()({arguments})\n',
}
CALL_MODEL = 'found = {{"output": model({values})}}\n'  # of a plain model in Keras' file
SHOW = {"saved_model": "value.numpy()", "onnx": "value", "litert": "value", "keras": "value"}
LONGEST = 60  # characters of a value in the example


def write_example(folder: Path, form: str, endpoints: Mapping[str, Endpoint], imports: Sequence[str] = ()) -> str:
    """Writes read.py, which calls every endpoint, and the files that it reads; returns its text."""
    lines = ['"""Calls every endpoint of this export: python read.py."""', "", "from pathlib import Path", ""]
    modules = "".join(f"import {name}\n" for name in imports)
    lines += [OPEN[form].replace("\n\n", f"\n{modules}\nfolder = str(Path(__file__).parent)\n", 1)]
    if "folder =" not in lines[-1]:
        lines += ["folder = str(Path(__file__).parent)"]
    for name, endpoint in endpoints.items():
        trial = endpoint.trials()[0].items()
        written = {argument: _write_value(folder, form, name, argument, value) for argument, value in trial}
        arguments = ", ".join(f"{argument}={value}" for argument, value in written.items())
        values = ", ".join(written.values()) if len(written) == 1 else f"[{', '.join(written.values())}]"
        plain = form == "keras" and not imports
        lines += [(CALL_MODEL if plain else CALL[form]).format(name=name, arguments=arguments, values=values)]
        lines[-1] += f'for name, value in found.items():\n    print("{name}:", name, {SHOW[form]})\n'
    text = "\n".join(lines)
    (folder / "read.py").write_text(text, encoding="utf-8")
    return text


def _write_value(folder: Path, form: str, endpoint: str, argument: str, value: np.ndarray) -> str:
    """Returns the Python text of an argument; what is long or binary goes to a file beside the example."""
    if value.dtype.kind == "O" or isinstance(value, bytes):
        texts = np.asarray(value, object).ravel().tolist()
        if any(len(text) > 1000 for text in texts):
            names = [f"{argument}_{number}.bin" for number, _ in enumerate(texts)]
            for name, text in zip(names, texts, strict=True):
                (folder / name).write_bytes(text)
            return f"[Path(folder, name).read_bytes() for name in {names!r}]"
        shown = [text.decode() for text in texts]
        text = repr(shown if np.ndim(value) else shown[0])
        return f"tf.constant({text})" if form == "keras" else text
    plain = str(value) if np.ndim(value) == 0 else repr(value.tolist())
    module, array = ("tf", "tf.constant") if form in ("saved_model", "keras") else ("np", "np.array")
    if len(plain) > LONGEST:
        return f"{module}.zeros({value.shape}, {module}.{value.dtype.name})"
    return plain if form == "saved_model" else f"{array}({plain}, {module}.{value.dtype.name})"


def describe_endpoints(endpoints: Mapping[str, Endpoint]) -> dict[str, Any]:
    """Returns the signature of each endpoint as plain values."""
    return {
        name: {
            argument: {"dtype": spec.dtype.name, "shape": [*spec.shape]}
            for argument, spec in endpoint.signature.items()
        }
        for name, endpoint in endpoints.items()
    }


def write_readme(folder: Path, facts: Mapping[str, Any], example: str | None) -> None:
    """Writes README.md from the facts of export.json and the text of read.py."""
    lines = [f"# {facts['name']}", "", f"Exported by lightkeras {facts['version']} as {facts['format']}."]
    run = facts["run"]
    if run.get("metrics"):
        lines += ["", f"Metrics of the run after update {run['step']}:", "", "| metric | value |", "| --- | --- |"]
        lines += [f"| {name} | {value:.6g} |" for name, value in run["metrics"].items()]
    if run.get("data"):
        lines += ["", "Data of the run:", "", "```json", json.dumps(run["data"], indent=1, ensure_ascii=False), "```"]
    if facts["endpoints"]:
        lines += ["", "| endpoint | argument | type | shape |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {name} | {argument} | {spec['dtype']} | {tuple(spec['shape'])} |"
            for name, arguments in facts["endpoints"].items()
            for argument, spec in arguments.items()
        ]
    if example:
        needs = f"Reading it needs the package {PACKAGES[facts['format']]}"
        needs += f", and the modules {', '.join(facts['imports'])}:" if facts["imports"] else ":"
        lines += ["", needs, "", "```python", example.rstrip(), "```"]
    lines += ["", "export.json lists the files with their checksums."]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
