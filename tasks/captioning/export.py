"""The endpoints of an export: the bytes of JPEG files in, captions out; and the steps of the network over features."""

import io
import pathlib

import numpy as np
import tensorflow as tf
from PIL import Image

import lightkeras as lk
from tasks.captioning.photos.resizing import decode_square

BEAMS = 3
EXAMPLE_SIDES = ((90, 70), (700, 300))  # pixels: the second is decoded at a fraction of its size


def endpoints(task) -> dict[str, lk.export.Endpoint]:
    """Returns `caption`, `caption_beam` (of JPEG files), `caption_greedy`, `encode` and `step` (of features)."""
    data = task.data
    words = lk.export.WordCodec(data.vocabulary)
    network = data.network()
    photos = _read_photos(data) or [_jpeg(*sides) for sides in EXAMPLE_SIDES]
    files = {"jpeg": lk.export.TEXTS}

    def inputs_of(jpeg):
        spec = tf.TensorSpec((data.encoder.size, data.encoder.size, 3), tf.uint8)
        pixels = tf.map_fn(lambda one: decode_square(one, data.encoder.size), jpeg, fn_output_signature=spec)
        return data.scaled_in_graph(network.in_graph(pixels))  # (rows, slots, channels), or images

    def caption_beam(jpeg):
        found = task.searcher(inputs_of(jpeg), beam_size=BEAMS, n_best=BEAMS, length_penalty=1.0)
        rows, steps = tf.shape(found.ids)[0], tf.shape(found.ids)[2]
        texts = words.decode(tf.reshape(found.ids, (rows * BEAMS, steps)))
        used = tf.reduce_sum(found.attention, -1) > 0  # (rows, BEAMS, steps)
        return {
            "text": tf.where(tf.math.is_finite(found.scores), tf.reshape(texts, (rows, BEAMS)), ""),
            "score": found.scores,
            "words": tf.where(used, words.labels(found.ids), ""),  # (rows, BEAMS, steps)
            "attention": found.attention,  # (rows, BEAMS, steps, slots)
        }

    def caption(jpeg):
        return {"text": caption_beam(jpeg)["text"][:, 0]}

    def by_task(jpeg):
        return task.search([io.BytesIO(one) for one in jpeg], BEAMS, n_best=BEAMS)

    def scores_by_task(jpeg):
        found = by_task(jpeg)
        texts, scores = np.full((len(found), BEAMS), b"", object), np.full((len(found), BEAMS), -np.inf, np.float32)
        for row, ranked in enumerate(found):
            texts[row, : len(ranked)] = lk.export.texts_of([one.text for one in ranked])
            scores[row, : len(ranked)] = [one.score for one in ranked]
        return {"text": texts, "score": scores}

    shape = tuple(data.input_shape)
    drawn = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype(np.float32)
    example = next(data.inputs("validation"))[:2] if data.is_set_up else drawn
    return {
        "caption": lk.export.Endpoint(
            caption, files, [{"jpeg": photos}],
            lambda jpeg: {"text": lk.export.texts_of([ranked[0].text for ranked in by_task(jpeg)])},
            tracked=(words.table,),
        ),
        "caption_beam": lk.export.Endpoint(caption_beam, files, [{"jpeg": photos}], scores_by_task),
        "caption_greedy": lk.export.greedy_search(task.searcher, data.input_name, example),
        **lk.export.decoding_steps(
            task.network, {data.input_name: tf.TensorSpec((None, *shape), tf.float32)}, {data.input_name: example}
        ),
    }  # fmt: skip


def _read_photos(data) -> list[bytes]:
    """Reads the first JPEG files of the validation data, where that is at hand."""
    paths = [pathlib.Path(name) for name in data.names("validation")[:2]] if data.is_set_up else []
    return [path.read_bytes() for path in paths if path.suffix.lower() in (".jpg", ".jpeg") and path.is_file()]


def _jpeg(width: int, height: int) -> bytes:
    """Draws a smooth picture of many colours."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    pixels = np.stack([x, y, (np.sin(9 * x * y) + 1) / 2], axis=-1)
    file = io.BytesIO()
    Image.fromarray((255 * pixels).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()
