"""The original notebooks' training as competitors: their models and steps, a Python loop over `tf.data` batches."""

from benchmarks.peers import keras as keras_peers
from benchmarks.peers.tutorials import captioning as tutorial_captioning
from benchmarks.peers.tutorials import dcgan as tutorial_dcgan
from benchmarks.peers.tutorials import text as tutorial_text
from benchmarks.peers.tutorials import translation as tutorial_translation


def train(gate, task: str, sizes: dict, steps: int, batches: int) -> None:
    """The notebook's loop; a stretch is `steps` updates."""
    dataset = keras_peers.make_dataset(task, sizes, batches)
    step = make_step(task, sizes, next(iter(dataset)))
    stream = iter(dataset.repeat())
    while True:
        gate()
        for _ in range(steps):
            step(next(stream))


def make_step(task: str, sizes: dict, batch):
    """The notebook's step, as a function of a batch of `keras_peers.make_dataset`."""
    names = ("vocabulary", "embedding", "units")
    if task == "dcgan":
        return tutorial_dcgan.Tutorial(**sizes).train_step
    if task == "translation":
        vocabulary, embedding, units = (sizes[name] for name in names)
        model = tutorial_translation.build(vocabulary, vocabulary, sizes["batch"], units, embedding)
        return lambda batch: tutorial_translation.train_step(model, batch[0][0], _whole(*batch))
    if task == "captioning":
        model = tutorial_captioning.Tutorial(**{name: sizes[name] for name in (*names, "batch")})
        model.build(batch[0][0], _whole(*batch))
        return lambda batch: model.train_step(batch[0][0], _whole(*batch))
    model = tutorial_text.Tutorial(**{name: sizes[name] for name in (*names, "layers", "cell")})
    return lambda batch: model.train_step(*batch)


def _whole(inputs, targets):
    """The words with the first one, (batch, time + 1)."""
    import tensorflow as tf

    return tf.concat([inputs[1][:, :1], targets], axis=1)
