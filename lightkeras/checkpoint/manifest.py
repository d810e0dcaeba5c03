"""The manifest decides: it lists every shard with its size and checksum, holds the JSON state, and is written last."""

import hashlib
import json
import posixpath
from typing import Any

import numpy as np

from lightkeras.checkpoint.archive import expect, read_file, write_file
from lightkeras.checkpoint.storage import MANIFEST, SHARD_NAME, CheckpointError, Files
from lightkeras.utils.checks import require

FORMAT = 1


def checked_state(state: Any) -> dict[str, Any]:
    """A copy of `state` in JSON's own types, or a ValueError that names the place."""
    require(isinstance(state, dict), "state", "a dict", state)
    return _to_json(state, "state")


def _to_json(value: Any, where: str) -> Any:
    """`value` in Python's own types, or a ValueError that names the place: state['history'][3]."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        for key in value:
            require(isinstance(key, str), where, "a dict with str keys", key)
        return {key: _to_json(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item, f"{where}[{index}]") for index, item in enumerate(value)]
    plain = value is None or isinstance(value, bool | int | float | str)
    require(plain, where, "a JSON value (None, bool, int, float, str, list, dict)", value)
    return value


def write_manifest(files: Files, path: str, step: int, state: dict, shards: list[dict]) -> None:
    """Writes the manifest of `shards` (see `write_shard`) to the file `path`."""
    manifest = {"format": FORMAT, "step": step, "state": state, "shards": shards}
    text = json.dumps(manifest | {"sha256": _manifest_checksum(manifest)})
    write_file(files, path, lambda file: file.write(text.encode()))


def read_manifest(path: str) -> dict[str, Any]:
    """The manifest of the checkpoint `path`, its checksum verified; CheckpointError where it is not whole."""
    file = posixpath.join(path, MANIFEST)
    data = read_file(file, "a checkpoint's manifest")
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"Expected {file} to be whole JSON. Received: {len(data)} bytes, {error}") from error
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if version != FORMAT:
        later = ": a later version of lightkeras reads it" if isinstance(version, int) and version > FORMAT else ""
        raise CheckpointError(f"Expected {file} to be of checkpoint format {FORMAT}. Received: {version!r}{later}")
    expect(file, "SHA-256", manifest.pop("sha256", None), _manifest_checksum(manifest))
    _require_layout(file, manifest)
    return manifest


def _require_layout(file: str, manifest: dict[str, Any]) -> None:
    """Rejects a manifest that `write_manifest` has not written, with a right checksum all the same."""
    types = {"step": int, "state": dict, "shards": list}
    for name, kind in types.items():
        value = manifest.get(name)
        if not isinstance(value, kind):
            raise CheckpointError(f"Expected {file} to have {name!r}, a {kind.__name__}. Received: {value!r}")
    for shard in manifest["shards"]:
        entry = shard if isinstance(shard, dict) else {}
        if not SHARD_NAME.fullmatch(str(entry.get("name"))):
            raise CheckpointError(
                f"Expected {file} to name files in the checkpoint's folder. Received: {entry.get('name')!r}"
            )
        listed = entry.get("arrays")
        whole = isinstance(listed, list) and all(
            isinstance(array, dict) and {"name", "dtype", "shape"} <= array.keys() for array in listed
        )
        if not whole or not {"bytes", "sha256"} <= entry.keys():
            raise CheckpointError(f"Expected {file} to list arrays of {entry['name']}. Received: {list(entry)}")


def _manifest_checksum(manifest: dict[str, Any]) -> str:
    """SHA-256 of the manifest without its checksum; JSON written, read and written again is the same."""
    return hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
