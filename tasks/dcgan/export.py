"""The endpoints of an export: a seed in, pictures out; and the generator over noise."""

import tensorflow as tf

import lightkeras as lk


def endpoints(task) -> dict[str, lk.export.Endpoint]:
    """Returns `generate` (a number and a seed) and `image` (noise)."""
    noise = tf.TensorSpec((None, task.hparams.noise_dim), tf.float32)

    def generate(n, seed):
        n = lk.export.checked_between("n", n, 1)
        seed = lk.export.checked_between("seed", seed, 0, below=2**32)
        keys = tf.stack([tf.range(tf.cast(n, tf.int64)), tf.fill([n], seed)], axis=1)  # (n, 2)
        return {"images": task.to_images(task.noise_of(keys))}

    return {
        "generate": lk.export.Endpoint(
            generate, {"n": tf.TensorSpec((), tf.int32), "seed": tf.TensorSpec((), tf.int64)},
            [{"n": 3, "seed": 0}, {"n": 1, "seed": 2**32 - 1}],
            lambda n, seed: {"images": task.generate(n, seed)}, formats=("saved_model", "onnx"),
        ),
        "image": lk.export.Endpoint(lambda noise: {"image": task.generator(noise)}, {"noise": noise}),
    }  # fmt: skip
