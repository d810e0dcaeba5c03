"""Any name with any type: typeshed's stubs of TensorFlow are incomplete (no `~tensor`, no `tensor[..., i]`)."""

from typing import Any

def __getattr__(name: str) -> Any: ...
