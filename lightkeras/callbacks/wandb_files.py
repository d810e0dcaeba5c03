"""Reads what W&B wrote while it was offline: `.wandb` files, logs in LevelDB's format of W&B's protocol buffers.

W&B writes them some seconds late, and a process that is killed loses what was not written. W&B has no public reader.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightkeras.utils.checks import import_extra

HEADER, BLOCK, RECORD_HEADER = 7, 32768, 7  # bytes
WHOLE, LAST = 1, 4  # types of a part of a record; others are followed by the next part


def last_step(folder: Path) -> int:
    """Returns the last step in the folder of an offline run; 0 without any."""
    rows = [row for path in folder.glob("*.wandb") for row in history(path)]
    return max((row["_step"] for row in rows), default=0)


def history(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a file, with the names of nested values joined by "/"."""
    found = [record.history for record in records(path) if record.WhichOneof("record_type") == "history"]
    return [{"/".join(one.nested_key) or one.key: json.loads(one.value_json) for one in row.item} for row in found]


def records(path: Path) -> list[Any]:
    """Returns every whole record of a file."""
    messages = import_extra("wandb", "wandb.proto.wandb_internal_pb2")
    return [messages.Record.FromString(data) for data in _payloads(path.read_bytes())]


def _payloads(content: bytes) -> Iterator[bytes]:
    at, parts = HEADER, b""
    while at + RECORD_HEADER <= len(content):
        left = BLOCK - at % BLOCK
        if left < RECORD_HEADER:  # the end of a block is filled up
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + RECORD_HEADER])
        part = content[at + RECORD_HEADER : at + RECORD_HEADER + length]
        if len(part) < length or kind == 0:
            return  # the process was killed here
        parts += part
        at += RECORD_HEADER + length
        if kind in (WHOLE, LAST):
            yield parts
            parts = b""
