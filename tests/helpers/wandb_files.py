"""Reads what W&B wrote while it was offline: `.wandb` files, LevelDB logs of protocol buffers."""

import json
import struct
from pathlib import Path

HEADER, BLOCK, RECORD_HEADER = 7, 32768, 7  # bytes
WHOLE, LAST = 1, 4  # types of a part of a record; 2 and 3 come before the last


def records(path: Path) -> list:
    """Every record of a file, the last of which may be half."""
    from wandb.proto import wandb_internal_pb2

    return [wandb_internal_pb2.Record.FromString(data) for data in _payloads(path.read_bytes())]


def _payloads(content: bytes):
    at, parts = HEADER, b""
    while at + RECORD_HEADER <= len(content):
        left = BLOCK - at % BLOCK
        if left < RECORD_HEADER:  # the end of a block is filled up
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + RECORD_HEADER])
        part = content[at + RECORD_HEADER : at + RECORD_HEADER + length]
        if len(part) < length or kind == 0:
            return
        parts += part
        at += RECORD_HEADER + length
        if kind in (WHOLE, LAST):
            yield parts
            parts = b""


def history(folder: Path) -> tuple[set[str], list[dict]]:
    """The run ids in a folder of offline runs, and the rows of all, in the order in which they were made."""
    ids, rows = set(), []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                ids.add(record.run.run_id)
            elif kind == "history":
                rows.append(
                    {"/".join(one.nested_key) or one.key: json.loads(one.value_json) for one in record.history.item}
                )
    return ids, rows
