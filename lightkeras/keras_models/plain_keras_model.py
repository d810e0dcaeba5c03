# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own Keras model, your own arrays
#
# You have a compiled `keras.Model` and call `model.fit(x, y, ...)`. Here the same model is trained by `lightkeras`,
# unchanged. You will see
#
# - what changes in your code: one line,
# - that a run which is stopped and resumed ends with the same weights, to the last bit,
# - how the best weights are found again, and which digits the model still gets wrong.
#
# It needs no download and takes a minute.

# %% [markdown]
# ## Install
#
# The cell does nothing where `lightkeras` is there already.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("lightkeras") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", ".."], check=True)

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import lightkeras as lk

# %% tags=["parameters"]
epochs = 12
units = 64

# %% [markdown]
# ## The data: arrays
#
# 1,797 digits of 8 x 8 pixels, written by hand; scikit-learn brings them along. A fifth is held out.

# %%
images, labels = load_digits(return_X_y=True)
x, y = (images / 16).astype("float32").reshape(-1, 8, 8, 1), labels.astype("int32")
order = np.random.default_rng(0).permutation(len(x))
held_out, rest = order[: len(x) // 5], order[len(x) // 5 :]
training, validation = (x[rest], y[rest]), (x[held_out], y[held_out])

figure, axes = plt.subplots(1, 10, figsize=(10, 1.3))
for axis, number in zip(axes, rest, strict=False):
    axis.imshow(x[number, ..., 0], cmap="gray_r")
    axis.set_title(y[number])
    axis.axis("off")
plt.show()


# %% [markdown]
# ## The model: Keras' own
#
# Nothing in it knows of `lightkeras`. Dropout is in it on purpose: it draws random numbers in every update, which a resumed
# run has to find again.


# %%
def build_model():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10),
        ],
        name="digits",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    return model


# %% [markdown]
# `lk.show` looks before you leap: the data, examples as you read them, the weights, the time of the run. The model stays
# as it is.

# %%
lk.seed_everything(0)
model = build_model()
print(lk.show(model, training, validation_data=validation, batch_size=64, max_epochs=epochs))

# %% [markdown]
# ## Train
#
# | with Keras | with lightkeras |
# | --- | --- |
# | `model.fit(x, y, epochs=12, batch_size=64, validation_data=v)` | `lk.Trainer(max_epochs=12).fit(model, (x, y), batch_size=64, validation_data=v)` |
#
# Keras' `fit` is the loop in both, and your callbacks work in both. The Trainer adds a folder for the run, with all metrics
# and checkpoints in it, and puts many updates into one call: small models train several times faster.

# %%
trainer = lk.Trainer(
    max_epochs=epochs, callbacks=[lk.EarlyStopping("val_loss", patience=4)], enable_model_summary=False
)
history = trainer.fit(model, training, validation_data=validation, batch_size=64)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
    for prefix, label in (("", "training"), ("val_", "validation")):
        values = history.history[prefix + name]
        axis.plot(range(1, len(values) + 1), values, marker="o", label=label)
    axis.set(xlabel="epochs", ylabel=name)
axes[0].legend()
plt.show()

# %% [markdown]
# The training looks worse than the validation because of dropout: in training, three units of ten are missing.
#
# ## Stop it, resume it
#
# Below a run is stopped in the middle of its second epoch, as by a full disk or a scheduler. A *new* model in a new run
# then takes up where the first one ended: weights, Adam's moments, the order of the examples, dropout's random numbers.
# Beside it is a run that nobody stopped.


# %%
def train(steps, ckpt_path=None):
    lk.seed_everything(0)
    model = build_model()
    trainer = lk.Trainer(max_steps=steps, default_root_dir="runs/resumed", logger=False, enable_progress_bar=False,
                         enable_model_summary=False)  # fmt: skip
    trainer.fit(model, training, ckpt_path=ckpt_path, validation_data=validation, batch_size=64)
    return model, trainer.run_dir


whole, _ = train(60)
_, stopped = train(35)  # 23 updates are an epoch
resumed, _ = train(60, ckpt_path=str(stopped))
same = [np.array_equal(a, b) for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True)]
print(f"{sum(same)} of {len(same)} arrays of weights are equal to the last bit")

# %% [markdown]
# With `keras.callbacks.BackupAndRestore` the broken epoch begins anew, and the two differ.
#
# ## Use the best weights
#
# The last epoch need not be the best one. `ckpt_path="best"` takes the weights of the epoch with the lowest validation
# loss, from the run's folder.

# %%
found = trainer.validate(model, validation, ckpt_path=str(trainer.run_dir), batch_size=64)
print({name: round(value, 4) for name, value in found.items()})

# %%
logits = trainer.predict(model, validation[0], ckpt_path=str(trainer.run_dir))
guesses = logits.argmax(axis=-1)
wrong = np.flatnonzero(guesses != validation[1])
print(f"{len(wrong)} of {len(guesses)} held-out digits are read wrongly")
figure, axes = plt.subplots(1, 8, figsize=(9, 1.5))
for axis in axes:
    axis.axis("off")
for axis, number in zip(axes, wrong, strict=False):
    axis.imshow(validation[0][number, ..., 0], cmap="gray_r")
    axis.set_title(f"{validation[1][number]}, not {guesses[number]}", fontsize=9)
plt.show()

# %% [markdown]
# ## What else works, and what does not
#
# Any data goes in: `tf.data`, a `PyDataset`, generators, pandas' arrays, files on disk. Any compiled model goes in: with a
# `train_step` of its own, several optimizers, metrics of your own. What a plain model cannot have is what its own step
# decides: micro-batches, clipping over replicas, equal losses on any number of devices. For these, write the loss as a
# [task](../lightkeras/README.md#the-task): about thirty lines.
