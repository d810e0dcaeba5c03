"""Folders of runs, written by hand: what a run leaves, without a training."""

import io
import json
import math
import socket
from pathlib import Path

import numpy as np
from PIL import Image

CONFIG = """trainer: {max_epochs: 3, seed: 7}
task:
  class_path: helpers.toys.Classifier
  init_args: {units: 5, learning_rate: 0.05}
data:
  class_path: helpers.toys.PointsData
  init_args: {size: 37}
"""
VERSIONS = {"lightkeras": "0.1.0", "tensorflow": "2.21.0"}
HOSTILE = "<script>alert(\"1\")</script> 'quoted' & שלום <b>"


def write_run(folder: Path, rows: int = 6, samples: int = 2, units: int = 5) -> Path:
    """A run of `rows` rows of training, two of them an epoch, each epoch with a validation, in whole."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG.replace("units: 5", f"units: {units}"))
    lines = ["epoch,step,loss,accuracy,learning_rate,val_loss,val_accuracy"]
    for i in range(rows):
        loss = 2 * math.exp(-i / rows)
        lines.append(f"{i // 2},{10 * (i + 1)},{loss},{1 - loss / 2},{0.05 / (i + 1)},,")
        if i % 2:
            lines.append(f"{i // 2},{10 * (i + 1)},,,,{loss + 0.25},{0.9 - loss / 2}")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    write_samples(folder, samples)
    write_timeline(folder, start(1000.0), progress(1010.0, 20), end(1020.0, 10 * rows))
    return folder


def write_samples(folder: Path, count: int) -> None:
    (folder / "samples").mkdir()
    noise = np.random.default_rng(0)
    for epoch in range(1, count + 1):
        picture(noise.integers(0, 256, (65, 65), np.uint8), folder / f"samples/epoch_{epoch:04d}.png")
        (folder / f"samples/epoch_{epoch:04d}.txt").write_text(f"{epoch} {HOSTILE}\n", encoding="utf-8")


def picture(pixels: np.ndarray, path: Path | None = None) -> bytes:
    """A PNG file, eight times as large."""
    file = io.BytesIO()
    Image.fromarray(pixels.repeat(8, axis=0).repeat(8, axis=1)).save(file, "PNG")
    if path:
        path.write_bytes(file.getvalue())
    return file.getvalue()


def start(time: float, step: int = 0) -> dict:
    facts = {"versions": VERSIONS, "platform": "Linux", "devices": "1 CPU", "monitor": ["val_loss", "min"]}
    return {"event": "start", "time": time, "step": step, **facts}


def progress(time: float, step: int) -> dict:
    seconds = {"tracing": 2.0, "updates": 5.0, "validation": 3.0}
    return {"event": "progress", "time": time, "step": step, "seconds": seconds, "elapsed": 10.0,
            "speeds": {"steps_per_second": step / 10}}  # fmt: skip


def end(time: float, step: int, why: str = "finished") -> dict:
    return {**progress(time, step), "event": "end", "why": why}


def write_timeline(folder: Path, *events: dict) -> None:
    (folder / "timeline.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def write_lock(folder: Path, process: int) -> None:
    """The lock of a process of this machine."""
    holder = {"process": process, "machine": socket.gethostname(), "since": "now"}
    (folder / ".run.lock").write_text(json.dumps(holder))
