"""The four tasks in plain Keras: stock layers, `compile` and `fit`."""

import keras
import tensorflow as tf

from benchmarks.peers import shapes
from benchmarks.peers.tutorials.dcgan import networks

CELLS = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}


def train(gate, task: str, sizes: dict, steps: int, batches: int) -> None:
    """`fit(verbose=0)`; a stretch is `steps` updates."""
    model = make_model(task, sizes)
    stream = make_dataset(task, sizes, batches)
    model.fit(stream, epochs=10**6, verbose=0, shuffle=False, callbacks=[Gates(gate, steps)])


class Gates(keras.callbacks.Callback):
    """Calls the gate when training begins and after every `steps` updates."""

    def __init__(self, gate, steps: int):
        super().__init__()
        self._gate, self._steps, self._made = gate, steps, 0

    def on_train_begin(self, logs=None):
        self._gate()

    def on_train_batch_end(self, batch, logs=None):
        self._made += 1
        if self._made % self._steps == 0:
            self._gate()


def make_dataset(task: str, sizes: dict, batches: int) -> tf.data.Dataset:
    """Shuffled batches, as `fit` takes them: images, or (inputs, targets)."""
    arrays = shapes.arrays(task, sizes, batches)
    examples = tf.data.Dataset.from_tensor_slices(arrays).shuffle(len(next(iter(arrays.values()))))
    batched = examples.batch(sizes["batch"], drop_remainder=True)
    return batched.map(make_input_function(task, sizes), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def make_input_function(task: str, sizes: dict):
    """A function of a batch of `shapes.arrays`: what `fit` takes."""
    if task == "dcgan":
        return lambda rows: rows["image"]
    if task == "translation":
        return lambda rows: ((rows["source"], rows["target"][:, :-1]), rows["target"][:, 1:])
    if task == "captioning":
        features = tf.constant(shapes.features(sizes))
        return lambda rows: ((tf.gather(features, rows["photo"]), rows["caption"][:, :-1]), rows["caption"][:, 1:])
    return lambda rows: (rows["inputs"], rows["targets"])


def make_model(task: str, sizes: dict) -> keras.Model:
    """The model of one of `shapes.TASKS`, built and compiled."""
    if task == "dcgan":
        model = DCGAN(**sizes)
        model.compile()
        return model
    names = ("vocabulary", "embedding", "units")
    if task == "translation":
        model = Translation(**{name: sizes[name] for name in names})
    elif task == "captioning":
        model = Captioning(**{name: sizes[name] for name in names})
    else:
        model = text(**{name: sizes[name] for name in (*names, "layers", "cell")})
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def classifier(width, layers) -> keras.Model:
    """Hidden layers and the scores of the classes, for `shapes.points`."""
    hidden = [keras.layers.Dense(width, activation="relu") for _ in range(layers)]
    return keras.Sequential([*hidden, keras.layers.Dense(shapes.CLASSES)])


def text(vocabulary, embedding, units, layers, cell) -> keras.Model:
    """Embedding, recurrent layers, dense layer: logits (batch, time, vocabulary)."""
    recurrent = [CELLS[cell](units, return_sequences=True) for _ in range(layers)]
    return keras.Sequential([keras.layers.Embedding(vocabulary, embedding), *recurrent, keras.layers.Dense(vocabulary)])


# ---- attention


class AttendingCell(keras.layers.Layer):
    """A stock `GRUCell` that attends to `memory` before every step; its output is [state; context]."""

    def __init__(self, units, features, memory_features, **kwargs):
        super().__init__(**kwargs)
        self.query = keras.layers.Dense(units, use_bias=False)
        self.key, self.scale = keras.layers.Dense(units), keras.layers.Dense(1, use_bias=False)
        self.cell = keras.layers.GRUCell(units)
        self.state_size, self.output_size = units, units + memory_features
        self.query.build((None, units))
        self.key.build((None, None, memory_features))
        self.scale.build((None, None, units))
        self.cell.build((None, features + memory_features))
        self.built = True

    def attend_to(self, memory) -> None:
        """What the next steps read: (batch, slots, memory_features), with its keys made once."""
        self.memory, self.keys = memory, self.key(memory)

    def call(self, inputs, states):
        (state,) = states
        weights = keras.ops.softmax(self.scale(keras.ops.tanh(self.keys + self.query(state)[:, None])), axis=1)
        context = keras.ops.sum(weights * self.memory, axis=1)  # (batch, memory_features)
        output, states = self.cell(keras.ops.concatenate([inputs, context], -1), [state])
        return keras.ops.concatenate([output, context], -1), states


class AttendingDecoder(keras.layers.Layer):
    """`keras.layers.RNN` over an `AttendingCell`, and the scores of the words."""

    def __init__(self, vocabulary, embedding, units, **kwargs):
        super().__init__(**kwargs)
        self.embedding = keras.layers.Embedding(vocabulary, embedding)
        self.bridge = keras.layers.Dense(units, "tanh")
        self.cell = AttendingCell(units, embedding, units)
        self.recurrent = keras.layers.RNN(self.cell, return_sequences=True)
        self.readout, self.head = keras.layers.Dense(embedding, "tanh"), keras.layers.Dense(vocabulary)

    def call(self, words, memory, summary):
        """Logits (batch, time, vocabulary) of words (batch, time), memory (batch, slots, units) and its summary."""
        self.cell.attend_to(memory)
        embedded = self.embedding(words)
        read = self.recurrent(embedded, initial_state=[self.bridge(summary)])
        return self.head(self.readout(keras.ops.concatenate([read, embedded], -1)))


class Translation(keras.Model):
    """An encoder GRU and an attending decoder."""

    def __init__(self, vocabulary, embedding, units):
        super().__init__()
        self.embedding = keras.layers.Embedding(vocabulary, embedding)
        self.encoder = keras.layers.GRU(units, return_sequences=True, return_state=True)
        self.decoder = AttendingDecoder(vocabulary, embedding, units)

    def call(self, inputs):
        source, words = inputs
        return self.decoder(words, *self.encoder(self.embedding(source)))


class Captioning(keras.Model):
    """A projection of the photos' features, and an attending decoder."""

    def __init__(self, vocabulary, embedding, units):
        super().__init__()
        self.projection = keras.layers.Dense(units, "relu")
        self.decoder = AttendingDecoder(vocabulary, embedding, units)

    def call(self, inputs):
        features, words = inputs
        memory = self.projection(features)  # (batch, slots, units)
        return self.decoder(words, memory, keras.ops.mean(memory, axis=1))


# ---- DCGAN


class DCGAN(keras.Model):
    """The tutorial's networks and losses, with an overridden `train_step`, as Keras' examples write a GAN."""

    def __init__(self, side, noise, filters, dropout, batch):
        super().__init__()
        self.generator, self.discriminator = networks(side, noise, filters, dropout)
        self.shape_of_noise = (batch, noise)
        self.generator_optimizer, self.discriminator_optimizer = (
            keras.optimizers.Adam(1e-4),
            keras.optimizers.Adam(1e-4),
        )
        self.cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
        self.trackers = {name: keras.metrics.Mean(name=name) for name in ("generator_loss", "discriminator_loss")}

    @property
    def metrics(self):
        """The means of both losses."""
        return list(self.trackers.values())

    def compute_losses(self, images, noise):
        """The generator's and the discriminator's."""
        real, fake = (
            self.discriminator(images, training=True),
            self.discriminator(self.generator(noise, training=True), training=True),
        )
        ones, zeros = tf.ones_like(fake), tf.zeros_like(fake)
        return self.cross_entropy(ones, fake), self.cross_entropy(ones, real) + self.cross_entropy(zeros, fake)

    def train_step(self, images):
        """One update of both."""
        with tf.GradientTape(persistent=True) as tape:
            losses = self.compute_losses(images, tf.random.normal(self.shape_of_noise))
        optimizers = (self.generator_optimizer, self.discriminator_optimizer)
        for network, loss, optimizer in zip((self.generator, self.discriminator), losses, optimizers, strict=True):
            optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        for tracker, loss in zip(self.metrics, losses, strict=True):
            tracker.update_state(loss)
        return {tracker.name: tracker.result() for tracker in self.metrics}
