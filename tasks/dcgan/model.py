"""The networks of the TensorFlow DCGAN tutorial (Radford et al. 2016), for any size of image."""

import keras
import tensorflow as tf

import lightkeras as lk

LAST = "channels_last"  # whatever a user's keras.json says
SLOPE = 0.3  # of the leaky ReLUs, for negative inputs


def halvings(image_size: int) -> int | None:
    """Number of halvings from `image_size` to a side of 4 to 8.

    It is 2, as in the tutorial, but more for larger images and 1 for images below 16. None: no number of halvings
    gives a whole side.
    """
    for count in (*range(2, 16), 1):
        side, rest = divmod(image_size, 2**count)
        if not rest and 4 <= side <= 8:
            return count
    return None


def check_image_size(size: int) -> None:
    """Raises ValueError, with the nearest valid sides, unless the generator can reach `size` by doubling."""
    lk.utils.require_int("image_size", size)
    if halvings(size) is None:
        known = [other for other in range(8, 2049) if halvings(other)]
        listed = ", ".join(map(str, sorted(sorted(known, key=lambda other: abs(other - size))[:3])))
        lk.utils.require(False, "image_size", f"4 to 8 times a power of two, such as {listed}", size)


class BatchNormalization(keras.layers.Layer):
    """Batch normalisation (Ioffe and Szegedy 2015) over the examples of weight 1, of all replicas.

    Neither rows of padding nor the number of replicas change the result (Keras' layer does not synchronise replicas
    when it is given a mask). The statistics are those of a micro-batch; one without any example does not change the
    moving averages.

    Args:
        momentum: Share of the moving averages that an update keeps.
        epsilon: Added to the variance.
    """

    def __init__(self, momentum=0.99, epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.momentum, self.epsilon = momentum, epsilon

    def build(self, shape):
        """Creates the variables; the last axis of `shape` is that of the channels."""
        for name, start, trainable in (
            ("gamma", "ones", True),
            ("beta", "zeros", True),
            ("moving_mean", "zeros", False),
            ("moving_variance", "ones", False),
        ):
            weight = self.add_weight(
                shape=shape[-1:], initializer=start, trainable=trainable, autocast=False, name=name
            )
            setattr(self, name, weight)

    def call(self, x, weight=None, training=False):
        """Normalises `x` (batch, ..., channels).

        Args:
            x: The activations.
            weight: float32 (batch,): 1 for an example, 0 for padding; needed in training.
            training: Whether to normalise by the statistics of the batch and to update the moving averages.
        """
        inputs = tf.cast(x, tf.float32)
        if training:
            mean, variance = self._batch_statistics(inputs, weight)
        else:
            mean, variance = self.moving_mean.value, self.moving_variance.value
        outputs = tf.nn.batch_normalization(inputs, mean, variance, self.beta.value, self.gamma.value, self.epsilon)
        return tf.cast(outputs, x.dtype)

    def _batch_statistics(self, x, weight):
        weight = tf.cast(weight, tf.float32)  # in mixed precision, Keras has cast it
        count = tf.reduce_sum(weight) * x.shape[1:-1].num_elements()
        total, count = lk.distribution.all_reduce_sum((_weighted_sum(x, weight), count))
        mean = tf.math.divide_no_nan(total, count)  # (channels,)
        squares = lk.distribution.all_reduce_sum(_weighted_sum(tf.math.squared_difference(x, mean), weight))
        variance = tf.math.divide_no_nan(squares, count)
        keep = tf.where(count > 0, self.momentum, 1.0)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * keep + tf.stop_gradient(now) * (1.0 - keep))
        return mean, variance


def _weighted_sum(x, weight):
    """The sum over all axes but the last: (batch, ..., channels) -> (channels,)."""
    rows = tf.reshape(x, (-1, x.shape[1:].num_elements()))  # (batch, pixels * channels)
    return tf.reduce_sum(tf.reshape(weight[None] @ rows, (-1, x.shape[-1])), axis=0)


class Generator(keras.layers.Layer):
    """Turns noise into images by a dense layer and transposed convolutions that double the side.

    For 28 x 28 pixels and `filters=64` it is the tutorial's: dense 7 x 7 x 256, then 128, 64, 1.

    Args:
        image_shape: (size, size, channels).
        filters: Filters before the last layer; twice as many for each halving of the side, from there on.
    """

    def __init__(self, image_shape, filters, **kwargs):
        super().__init__(**kwargs)
        size, _, channels = image_shape
        count = halvings(size)
        self.side, self.depth = size >> count, filters << count
        self.dense = keras.layers.Dense(self.side**2 * self.depth, use_bias=False, name="dense")
        self.convolutions = [
            _transposed(filters << (count - 1 - number), strides=1 if number == 0 else 2, name=f"convolution_{number}")
            for number in range(count)
        ]
        self.norms = [BatchNormalization(name=f"norm_{number}") for number in range(count + 1)]
        self.last = _transposed(channels, strides=2, dtype="float32", name="image")

    def build(self, noise_shape):
        """Creates the variables; `noise_shape` is (batch, noise_dim)."""
        self.dense.build(noise_shape)
        self.norms[0].build((None, self.side**2 * self.depth))
        depth = self.depth
        for convolution, norm in zip(self.convolutions, self.norms[1:], strict=True):
            convolution.build((None, None, None, depth))
            depth = convolution.filters
            norm.build((None, None, None, depth))
        self.last.build((None, None, None, depth))

    def call(self, noise, weight=None, training=False):
        """Images float32 (batch, size, size, channels) in (-1, 1).

        Args:
            noise: float32 (batch, noise_dim).
            weight: float32 (batch,), needed in training: rows of weight 0 are left out of the batch statistics.
            training: Whether to normalise by the batch.
        """
        x = self.norms[0](self.dense(noise), weight, training=training)  # (batch, side * side * depth)
        x = tf.reshape(tf.nn.leaky_relu(x, SLOPE), (-1, self.side, self.side, self.depth))
        for convolution, norm in zip(self.convolutions, self.norms[1:], strict=True):
            x = tf.nn.leaky_relu(norm(convolution(x), weight, training=training), SLOPE)
        return tf.tanh(self.last(x))  # (batch, size, size, channels)


def _transposed(filters, strides, **kwargs):
    return keras.layers.Conv2DTranspose(filters, 5, strides, padding="same", data_format=LAST, use_bias=False, **kwargs)


class Discriminator(keras.layers.Layer):
    """Turns images into logits, above 0 for real ones, by convolutions that halve the side, dropout and a dense layer.

    For 28 x 28 pixels and `filters=64` it is the tutorial's: 64, 128.

    Args:
        image_shape: (size, size, channels).
        filters: Filters of the first layer; twice as many after each halving of the side.
        dropout: Share of each convolution's outputs that is dropped in training.
    """

    def __init__(self, image_shape, filters, dropout, **kwargs):
        super().__init__(**kwargs)
        self.convolutions = [
            keras.layers.Conv2D(filters << number, 5, 2, padding="same", data_format=LAST, name=f"convolution_{number}")
            for number in range(halvings(image_shape[0]))
        ]
        self.dropouts = [keras.layers.Dropout(dropout) for _ in self.convolutions]
        self.dense = keras.layers.Dense(1, dtype="float32", name="logit")  # float32 in mixed precision too

    def build(self, images_shape):
        """Creates the variables; `images_shape` is (batch, size, size, channels)."""
        shape = tuple(images_shape)
        for convolution in self.convolutions:
            convolution.build(shape)
            shape = convolution.compute_output_shape(shape)
        self.dense.build((None, shape[1] * shape[2] * shape[3]))

    def call(self, images, training=False):
        """Logits float32 (batch,).

        Args:
            images: float32 (batch, size, size, channels) in [-1, 1].
            training: Whether to drop.
        """
        x = images
        for convolution, dropout in zip(self.convolutions, self.dropouts, strict=True):
            x = dropout(tf.nn.leaky_relu(convolution(x), SLOPE), training=training)
        return self.dense(tf.reshape(x, (-1, x.shape[1:].num_elements())))[:, 0]
