"""Photos as squares in a graph: the pixels of `read_image`, as TensorFlow operations."""

import tensorflow as tf

BITS = 22  # of the fractions in Pillow's weights of eight-bit pixels
FRACTIONS = (8, 4, 2)  # of a photo's sides that JPEG decodes by itself


def decode_square(jpeg: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes the bytes of a JPEG file: uint8 RGB (size, size, 3), whatever its aspect.

    The result is that of `read_image`, to one level of some pixels: a large photo is decoded at a fraction of its size,
    no less than twice `size`, turned upright by its EXIF tag, and resized by Pillow's bilinear filter.

    Raises:
        InvalidArgumentError: The bytes are no JPEG file, or one of four channels (CMYK). The error comes when the graph
            runs.
    """
    shape = tf.image.extract_jpeg_shape(jpeg)  # height, width, channels
    least = tf.reduce_min(shape[:2]) // (2 * size)
    choice = tf.reduce_sum(tf.cast(least < tf.constant(FRACTIONS), tf.int32))  # 0: an eighth, ..., 3: the whole
    decoders = [_decoder(jpeg, ratio) for ratio in (*FRACTIONS, 1)]
    colours = tf.debugging.Assert(shape[2] != 4, ["Expected JPEG files of RGB or grey. Received channels:", shape[2]])
    with tf.control_dependencies([colours]):
        pixels = tf.switch_case(choice, decoders)  # (height, width, 3)
    return _resize(_turn_upright(pixels, jpeg), size)


def _turn_upright(pixels: tf.Tensor, jpeg: tf.Tensor) -> tf.Tensor:
    """Turns (height, width, 3) by the EXIF tag 274 of a file."""
    header = tf.strings.substr(jpeg, 0, 1 << 16)
    tagged = [_has_orientation(header, value) for value in range(2, 9)]
    value = tf.reduce_max([tf.where(there, number, 0) for number, there in enumerate(tagged, 1)])
    turned = [
        lambda: pixels,
        lambda: pixels[:, ::-1],
        lambda: pixels[::-1, ::-1],
        lambda: pixels[::-1],
        lambda: tf.transpose(pixels, (1, 0, 2)),
        lambda: tf.transpose(pixels[::-1], (1, 0, 2)),
        lambda: tf.transpose(pixels[::-1, ::-1], (1, 0, 2)),
        lambda: tf.transpose(pixels[:, ::-1], (1, 0, 2)),
    ]
    return tf.ensure_shape(tf.switch_case(value, turned), (None, None, 3))


def _has_orientation(header: tf.Tensor, value: int) -> tf.Tensor:
    """Whether the EXIF part of a file's first bytes says `value`, in either order of bytes."""
    little = rf"\x12\x01\x03\x00\x01\x00\x00\x00\x{value:02x}\x00"
    big = rf"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x{value:02x}"
    return tf.strings.regex_full_match(header, rf"\C*Exif\x00\x00\C*(?:{little}|{big})\C*")


def _decoder(jpeg: tf.Tensor, ratio: int):
    return lambda: tf.io.decode_jpeg(jpeg, 3, ratio, dct_method="INTEGER_ACCURATE")


def _resize(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes uint8 (height, width, channels) to (size, size, channels): first the rows, then the columns.

    Like Pillow, it rounds to eight bits after each of the two.
    """
    x = tf.cast(pixels, tf.float64)
    x = _rounded(tf.einsum("ow,hwc->hoc", _weights(tf.shape(pixels)[1], size), x))
    x = _rounded(tf.einsum("oh,hwc->owc", _weights(tf.shape(pixels)[0], size), x))
    return tf.ensure_shape(tf.cast(x, tf.uint8), (size, size, 3))


def _rounded(sums: tf.Tensor) -> tf.Tensor:
    """Rounds sums of whole weights of 2**22, which float64 holds exactly."""
    return tf.clip_by_value(tf.floor((sums + 2.0 ** (BITS - 1)) / 2.0**BITS), 0.0, 255.0)


def _weights(length: tf.Tensor, size: int) -> tf.Tensor:
    """Returns the whole weights of Pillow's triangle filter: float64 (size, length)."""
    scale = tf.cast(length, tf.float64) / size
    support = tf.maximum(scale, 1.0)
    center = (tf.range(size, dtype=tf.float64) + 0.5)[:, None] * scale  # (size, 1)
    place = tf.range(tf.cast(length, tf.float64), dtype=tf.float64)[None]  # (1, length)
    first = tf.maximum(tf.floor(center - support + 0.5), 0.0)
    last = tf.minimum(tf.floor(center + support + 0.5), tf.cast(length, tf.float64))
    inside = (place >= first) & (place < last)
    weights = tf.where(inside, tf.nn.relu(1.0 - tf.abs((place - center + 0.5) * (1.0 / support))), 0.0)
    weights *= 1.0 / tf.reduce_sum(weights, axis=1, keepdims=True)
    return tf.floor(0.5 + weights * 2.0**BITS)
