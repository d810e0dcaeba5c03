"""A task whose layers keep more than variables."""

import keras
import numpy as np
import tensorflow as tf

from helpers.toys import Classifier, PointsData

WORDS = ["b", "a", "", "a", "two\u2028lines", "x\ny", "\u0085", "c c"]


class Table(keras.layers.Layer):
    """Keeps a table in NumPy and a file, by Keras' hooks."""

    table, text = None, ""

    def call(self, x):
        return x * float(self.table.sum() if self.table is not None else 0) + float(len(self.text))

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["table"] = self.table

    def load_own_variables(self, store):
        self.table = np.array(store["table"])

    def save_assets(self, dir_path):
        with open(f"{dir_path}/text.txt", "w", encoding="utf-8") as file:
            file.write(self.text)

    def load_assets(self, dir_path):
        with open(f"{dir_path}/text.txt", encoding="utf-8") as file:
            self.text = file.read()


class Adapted(Classifier):
    """Adapts its layers to the data, if the data is there: the usual way."""

    data_module = PointsData
    tokens = WORDS

    def configure_model(self, data):
        super().configure_model(data)
        self.normalize, self.bins = keras.layers.Normalization(), keras.layers.Discretization(num_bins=4)
        self.words = keras.layers.StringLookup(mask_token="")
        self.numbers = keras.layers.IntegerLookup(output_mode="multi_hot")
        self.texts = keras.layers.TextVectorization(output_mode="tf_idf", split=None, standardize=None)
        self.unadapted = keras.layers.Normalization()
        self.table, self.counts = Table(), keras.layers.Dense(4)  # with a row for each number that there is
        features = {"a": "float_normalized", "b": "integer_categorical"}
        self.space = keras.utils.FeatureSpace(features, output_mode="concat")
        if hasattr(data, "x"):
            rows = {"a": 3 * data.x[:, 0], "b": data.y + 5}
            self.space.adapt(tf.data.Dataset.from_tensor_slices(rows))
            self.normalize.adapt(3 * data.x + 2)
            self.bins.adapt(data.x)
            self.words.adapt(self.tokens)
            self.numbers.adapt([[5, 7, 7, 9]])
            self.texts.adapt(self.tokens)
            self.table.table, self.table.text = np.arange(3), "four"
        else:
            self.words.set_vocabulary(["q"])
            self.table.table = np.zeros(3)

    def features(self, x):
        return (
            self.normalize(self.unadapted(x))
            + tf.cast(self.bins(x), tf.float32)
            + self.table(x)
            + self.counts(self.numbers([[5]]))
            + self.spaced(x)
        )

    def spaced(self, x):
        return self.space({"a": x[:, :1], "b": 5 + tf.cast(x[:, 1:2] > 0, tf.int32)})

    def losses_of(self, batch, training):
        return super().losses_of({**batch, "x": self.features(batch["x"])}, training)

    def predict_step(self, batch):
        return self.network(self.features(batch["x"]), training=False)

    def looked_up(self):
        words = tf.constant(self.tokens)
        return [layer(words).numpy().tolist() for layer in (self.words, self.texts)] + [
            self.numbers(tf.constant([[5, 9, 1]])).numpy().tolist()
        ]


class Readable(Adapted):
    """Its tokens have no line breaks, with which Keras cannot read the vocabulary of a `.keras` file."""

    tokens = ("b", "a", "c c", "a")
