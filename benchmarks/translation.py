"""Translation's training step and its decoding: the TensorFlow tutorial's own, and ours with the same sizes.

Random ids in the tutorial's shapes, in memory: batches of 64, sources of 16 and targets of 11 tokens, vocabularies of
8,000, embeddings of 256, 1,024 units, one encoder layer in one direction, Adam. A stretch of training is `STEPS`
updates, of decoding `SENTENCES` sentences of `WORDS` words each, which no network ends early here. oneDNN's operations
are on in all; another competitor is the tutorial's step with them off, as TensorFlow has them on some processors.
"""

import tempfile

import numpy as np

from benchmarks import harness

STEPS, BATCH, PAIRS, SLOTS, WORDS, VOCABULARY, UNITS, EMBEDDING = 5, 64, 2048, 16, 11, 8000, 1024, 256
SENTENCES = {"tutorial": 4, "ours": 256}  # of a stretch
TUTORIAL, EAGER = "tutorial's step", "tutorial, eager, one at a time"
TRAINING = {
    TUTORIAL: "benchmarks.translation:tutorial",
    "tutorial's step, oneDNN off": "benchmarks.translation:tutorial_without_onednn",
    "Trainer.fit": "benchmarks.translation:trainer_fit",
}
DECODING = {
    EAGER: "benchmarks.translation:tutorial_decoding",
    "ours, greedy": "benchmarks.translation:greedy",
    "ours, 5 beams": "benchmarks.translation:beams",
}


def _ids(rows: int, width: int) -> np.ndarray:
    """Tokens, none of them special: int32 (rows, width)."""
    return np.random.default_rng(0).integers(4, VOCABULARY, (rows, width), np.int32)


# ---- the tutorial's


def _tutorial():
    from benchmarks import tutorial_translation

    return tutorial_translation, tutorial_translation.build(VOCABULARY, VOCABULARY, BATCH, UNITS, EMBEDDING)


def tutorial(gate, onednn: bool = True) -> None:
    """A Python loop over batches, and a `tf.function` with the time steps unrolled."""
    harness.use_onednn(onednn)
    import tensorflow as tf

    module, model = _tutorial()
    pairs = (_ids(PAIRS, SLOTS), _ids(PAIRS, WORDS))
    batches = iter(tf.data.Dataset.from_tensor_slices(pairs).shuffle(PAIRS).batch(BATCH, drop_remainder=True).repeat())
    while True:
        gate()
        for _ in range(STEPS):
            module.train_step(model, *next(batches))


def tutorial_without_onednn(gate) -> None:
    """The same, without oneDNN's operations."""
    tutorial(gate, onednn=False)


def tutorial_decoding(gate) -> None:
    """Its `evaluate`: greedy."""
    harness.use_onednn(True)
    module, model = _tutorial()
    sources = _ids(PAIRS, SLOTS)
    while True:
        gate()
        for source in sources[: SENTENCES["tutorial"]]:
            module.translate(model, source, WORDS)


# ---- ours


def _translation():
    """The task with the tutorial's sizes, and its data."""
    harness.use_onednn(True)
    import lightkeras as lk
    from tasks.translation import Translation

    class Ids(lk.DataModule):
        source_vocabulary = target_vocabulary = range(VOCABULARY)

        def train_dataset(self):
            return lk.AddressedDataset.from_arrays({"source": _ids(PAIRS, SLOTS), "target": _ids(PAIRS, WORDS)}, BATCH)

    sizes = {"embedding_dim": EMBEDDING, "units": UNITS, "encoder_units": UNITS}
    plain = {"bidirectional": False, "dropout": 0.0, "tie_embeddings": False, "label_smoothing": 0.0}
    return Translation(**sizes, **plain), Ids()


def trainer_fit(gate) -> None:
    """`Trainer.fit` of the task, default callbacks too; a row of the logs every `STEPS` updates."""
    task, data = _translation()
    import lightkeras as lk

    class AtLogs(lk.Callback):
        def on_train_begin(self, logs=None):
            gate()

        def on_log(self, record):
            gate()

    with tempfile.TemporaryDirectory() as folder:
        trainer = lk.Trainer(default_root_dir=folder, max_epochs=10**6, log_every_n_steps=STEPS, callbacks=[AtLogs()])
        trainer.fit(task, data)


def greedy(gate) -> None:
    """All sentences of a stretch at once, the best token at each step."""
    _decode(gate, beam_size=1)


def beams(gate) -> None:
    """The same with a beam search of 5."""
    _decode(gate, beam_size=5)


def _decode(gate, beam_size: int) -> None:
    task, data = _translation()
    import tensorflow as tf

    import lightkeras as lk
    from lightkeras import run_state

    run_state.build(task, data, data.train_dataset().element_spec)

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def decode(source):
        start = (task.network.next, task.network.encode(source), tf.fill(tf.shape(source)[:1], 2))
        common = {"max_length": WORDS, "end_id": 3, "forbidden": (0, 2), "min_length": WORDS}
        return lk.greedy_search(*start, **common) if beam_size == 1 else lk.beam_search(*start, **common, beam_size=5)

    sources = _ids(PAIRS, SLOTS)[: SENTENCES["ours"]]
    while True:
        gate()
        decode(sources).ids.numpy()


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    chosen = harness.options("translation").parse_args(arguments)
    training = harness.race(TRAINING, chosen.rounds)
    decoding = harness.race(DECODING, chosen.rounds)
    steps = {name: [seconds / STEPS * 1e3 for seconds in c.seconds] for name, c in training.items()}
    sentences = {
        name: [seconds / SENTENCES["tutorial" if name == EAGER else "ours"] * 1e3 for seconds in c.seconds]
        for name, c in decoding.items()
    }
    harness.show(f"Translation's step, {BATCH} pairs", "ms", steps, base=TUTORIAL)
    harness.show(f"Decoding a sentence of {WORDS} words", "ms", sentences, base=EAGER)
    start = {name: c.start_seconds for name, c in {**training, **decoding}.items()}
    settings = {
        "steps": STEPS,
        "batch": BATCH,
        "slots": SLOTS,
        "words": WORDS,
        "vocabulary": VOCABULARY,
        "units": UNITS,
    }
    harness.write(chosen.out, "translation", settings, {**steps, **sentences}, start)
    return 0
