"""The sizes and the data of the four tasks, as the peers train them: random, without padding, in memory.

`SIZES["full"]` are those of the TensorFlow tutorials; `SIZES["tiny"]` are for tests.
"""

import numpy as np

FIRST_WORD = 4  # padding, unknown, start and end come before

_TEXT = {"vocabulary": 65, "embedding": 256, "units": 1024, "layers": 1, "cell": "gru", "batch": 64, "time": 100}
_ATTENDING = {"vocabulary": 8000, "embedding": 256, "units": 1024, "batch": 64, "slots": 16, "words": 11}
_TINY = {"vocabulary": 13, "embedding": 6, "units": 8, "batch": 4}
SIZES = {
    "full": {
        "text": _TEXT,
        "text_lstm": {**_TEXT, "units": 512, "layers": 2, "cell": "lstm"},
        "dcgan": {"side": 28, "noise": 100, "filters": 64, "dropout": 0.3, "batch": 256},
        "translation": _ATTENDING,
        "captioning": {**_ATTENDING, "vocabulary": 5000, "units": 512, "slots": 64, "channels": 256, "words": 20},
    },
    "tiny": {
        "text": {**_TINY, "layers": 1, "cell": "gru", "time": 7},
        "text_lstm": {**_TINY, "layers": 2, "cell": "lstm", "time": 7},
        "dcgan": {"side": 16, "noise": 5, "filters": 3, "dropout": 0.0, "batch": 4},
        "translation": {**_TINY, "slots": 5, "words": 3},
        "captioning": {**_TINY, "slots": 6, "channels": 7, "words": 3},
    },
}
TASKS = tuple(SIZES["full"])
PHOTOS = 256  # each with many captions
CLASSES = 4  # of the scores of a classifier of points


def batches_for(rounds: int, steps: int) -> int:
    """Batches that so many rounds of `steps` updates have enough of, warming up and trying XLA included."""
    return steps * (rounds + 20)


def arrays(task: str, sizes: dict, batches: int) -> dict[str, np.ndarray]:
    """Examples of a task for so many batches, the example axis first.

    - text: `inputs`, `targets` int32 (n, time),
    - dcgan: `image` float32 (n, side, side, 1) in [-1, 1),
    - translation: `source` int32 (n, slots), `target` int32 (n, words + 1), the start sign first,
    - captioning: `photo` int32 (n,), a row of `features(sizes)`, and `caption` int32 (n, words + 1).
    """
    numbers, count = np.random.default_rng(0), batches * sizes["batch"]

    def ids(width):
        return numbers.integers(FIRST_WORD, sizes["vocabulary"], (count, width), np.int32)

    if task in ("text", "text_lstm"):
        return {"inputs": ids(sizes["time"]), "targets": ids(sizes["time"])}
    if task == "dcgan":
        side = sizes["side"]
        return {"image": numbers.uniform(-1, 1, (count, side, side, 1)).astype(np.float32)}
    if task == "translation":
        return {"source": ids(sizes["slots"]), "target": ids(sizes["words"] + 1)}
    return {"photo": numbers.integers(0, PHOTOS, count, np.int32), "caption": ids(sizes["words"] + 1)}


def features(sizes: dict) -> np.ndarray:
    """What a frozen network sees in every photo: float32 (photos, slots, channels), zero or above."""
    shape = (PHOTOS, sizes["slots"], sizes["channels"])
    return np.maximum(np.random.default_rng(1).normal(size=shape), 0).astype(np.float32)


def count_units(task: str, sizes: dict) -> tuple[str, int]:
    """What a batch is counted in, and how many it has: nothing of it is padding."""
    per_example = {"text": "time", "text_lstm": "time", "translation": "words", "captioning": "words"}.get(task)
    name = {"dcgan": "images", "translation": "tokens", "captioning": "words"}.get(task, "characters")
    return name, sizes["batch"] * (sizes[per_example] if per_example else 1)


def points(steps: int, batch: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns points of two classes for `steps` batches: float32 (n, features) and int32 (n,)."""
    x = np.random.default_rng(0).normal(size=(steps * batch, features)).astype(np.float32)
    return x, (x.sum(axis=1) > 0).astype(np.int32)
