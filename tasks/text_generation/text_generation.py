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
# # A network that writes like Shakespeare
#
# We train a recurrent network to guess the next character of a text. A network that guesses well can write: it draws a
# character, reads it back, and draws the next one.
#
# You will see
#
# - what such a network reads, and what it is asked for,
# - what a loss of 1.6 *nats*, or a *perplexity* of 5, tells you,
# - how the text that it writes becomes English while you look on,
# - what `lightkeras` does for you meanwhile.
#
# Change any cell and run it again. On two cores of a laptop all of it takes about ten minutes.

# %% [markdown]
# ## Install
#
# The cell does nothing where `lightkeras` is there already.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("lightkeras") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "../.."], check=True)

# %%
import matplotlib.pyplot as plt
import numpy as np

import lightkeras as lk
from tasks.text_generation import TextData, TextGeneration

# %% [markdown]
# ## Choose
#
# `source` may also be a text file of your own, or a folder of them. `"sample"` is a text that comes with Python: it needs
# no download.

# %% tags=["parameters"]
source = "download"  # Tiny Shakespeare: 1.1 MB, checked by its SHA-256 sum, and kept for the next time
epochs = 5
units = 256

# %% [markdown]
# ## Look at the data
#
# A `DataModule` knows where the data comes from, how it is split, and how a batch is made.

# %%
data = TextData(source)
data.prepare_data()
data.setup("fit")
training, validation = data.splits["train"], data.splits["validation"]
print(f"{len(training):,} characters to train on, {len(validation):,} held out")
print(f"{len(data.vocabulary)} different characters: {''.join(data.vocabulary.tokens)!r}")

# %% [markdown]
# A batch has windows of 100 characters. The *targets* are the *inputs*, moved by one: at every place the network is asked
# for the character that comes next.

# %%
(batch,) = data.train_dataset().stream(steps=1, epochs=1).as_numpy_iterator()
print("inputs: ", repr(data.vocabulary.decode(batch["inputs"][0][:60])))
print("targets:", repr(data.vocabulary.decode(batch["targets"][0][:60])))

# %% [markdown]
# ## Before training
#
# `lk.show` prints what a run will be: the splits, examples, the weights, and how long it will take, from a few timed
# updates of a copy. It trains nothing.

# %%
task = TextGeneration(embedding_dim=64, units=units, dropout=0.1, embedding_dropout=0.0, learning_rate=0.006)
options = {"max_epochs": epochs, "gradient_clip_val": 1.0, "seed": 0}
print(lk.show(task, data, **options))

# %% [markdown]
# ### Nats and perplexity
#
# The loss is the network's mean surprise: minus the logarithm of the probability that it gave to the character that came.
# Whoever gives each of $V$ characters the same probability is surprised by $\ln V$ nats each time. The *perplexity* is the
# number of characters that one hesitates between: $e^{loss}$. Without any training it is $V$.

# %%
size = len(data.vocabulary)
print(f"A guess among {size} characters: {np.log(size):.2f} nats, perplexity {size}")

# %% [markdown]
# ## Train
#
# In a notebook the Trainer shows a bar with the remaining time of the whole run. Beneath are the curves, and the text that
# the network writes after each epoch, from the same random numbers: watch how words appear, then lines, then names.
#
# You may stop the kernel here and call `fit` again with `ckpt_path="last"`: the run goes on in the middle of the epoch and
# ends with the very same weights.

# %%
trainer = lk.Trainer(**options, enable_model_summary=False)
history = trainer.fit(task, data)

# %% [markdown]
# ## What it has learned
#
# The gap between the two curves shows how much better the network knows the text that it has seen. (Dropout makes the
# training loss a little worse than it is.)

# %%
losses = history.history
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for name, label in (("loss", "training"), ("val_loss", "validation")):
    axes.plot(range(1, len(losses[name]) + 1), losses[name], marker="o", label=label)
axes.axhline(np.log(size), color="grey", linestyle=":", label="a blind guess")
axes.set(xlabel="epochs", ylabel="nats per character")
axes.legend()
plt.show()

# %%
best = min(losses["val_loss"])
print(f"{best:.3f} nats per character: it hesitates between {np.exp(best):.1f} characters instead of {size}.")

# %% [markdown]
# ### Where it is surprised
#
# A mean hides most of it. Below is the surprise at every character of a held-out passage. The first letters of words
# are hard: here the author decides. The ends of words are easy.

# %%
length = min(60, data.seq_len)
(held_out,) = data.val_dataset().stream(steps=1, epochs=1).as_numpy_iterator()
logits = np.asarray(task.predict_step(held_out))[0, :length]  # (characters, vocabulary)
shifted = logits - logits.max(axis=-1, keepdims=True)
log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
targets = held_out["targets"][0, :length]
surprise = -log_probabilities[np.arange(length), targets]

figure, axes = plt.subplots(figsize=(11, 2.4), layout="constrained")
axes.bar(range(length), surprise, color="tab:orange")
characters = [{"\n": "\\n", " ": "_"}.get(data.vocabulary.tokens[i], data.vocabulary.tokens[i]) for i in targets]
axes.set_xticks(range(length), characters, family="monospace")
axes.set(ylabel="nats", xlim=(-1, length))
plt.show()

# %% [markdown]
# ## Write
#
# The *temperature* says how daring the draw is. Near 0 the most probable character always wins: the text is safe and goes
# round in circles. At 1 it is drawn as the network believes. Above, it invents words.

# %%
prompt = "ROMEO:\n" if set("ROMEO:\n") <= set(data.vocabulary.tokens) else data.vocabulary.tokens[0]
for temperature in (0.2, 0.7, 1.2):
    print(f"---- temperature {temperature}")
    print(task.generate(prompt, length=200, temperature=temperature, seed=1)[0])

# %% [markdown]
# `top_p=0.9` draws from the most probable characters that together have 90 %: daring, without the blunders.

# %%
for text in task.generate(prompt, length=200, temperature=1.0, top_p=0.9, seed=2, num_samples=2):
    print(text, "\n----")

# %% [markdown]
# ## What is left of it
#
# The run's folder holds everything: the configuration, all metrics, samples, TensorBoard's files, and checkpoints with the
# vocabulary inside. A trained task needs nothing else: neither this notebook nor the data.

# %%
print(*sorted(path.name for path in trainer.run_dir.iterdir()), sep="\n")

# %%
again = TextGeneration.load_from_checkpoint(trainer.run_dir)
print(again.generate(prompt, length=60, temperature=0.7, seed=3)[0])

# %% [markdown]
# In a terminal, `lightkeras predict text_generation --ckpt_path RUN` does the same.
#
# ## Where lightkeras saved you work
#
# | you would have written | here |
# | --- | --- |
# | a loop over epochs, validation, checkpoints, logs | `Trainer(...).fit(task, data)` |
# | a restart that finds the epoch, the batch, Adam's moments and the dropout's random numbers again | `ckpt_path="last"` |
# | means over batches of different sizes, replicas and micro-batches | the loss is a (sum, weight); the library divides once |
# | a compiled loop that writes text | `lk.decoding.generate` |
#
# Next: a longer text of your own by `source = "my_texts/"`, or the default preset by
# `lightkeras fit text_generation`, which reaches 1.49 nats.
