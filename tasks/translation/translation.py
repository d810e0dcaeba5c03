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
# # From Spanish to English, and where the network looks
#
# An *encoder* reads a Spanish sentence, a *decoder* writes an English one, word by word. Before each word it looks back at
# the Spanish sentence and decides which part of it matters now: *attention* (Bahdanau, Cho and Bengio 2015).
#
# You will see
#
# - how a sentence becomes numbers, and what *teacher forcing* is,
# - a translator of a few Keras layers, with its training step,
# - what BLEU counts, and why it says something else than perplexity,
# - an attention map: which Spanish word each English word looked at,
# - how a large batch fits into little memory, without another result.
#
# Change any cell and run it again. All of it takes about ten minutes on two cores. (The outputs below are of two cores with
# much other work.)

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
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import layers

import lightkeras as lk
from tasks.translation import TranslationData

tf.get_logger().setLevel("ERROR")  # several trainings in one notebook: TensorFlow would give advice on loops

# %% [markdown]
# ## Choose
#
# `source` may also be a file of your own: two sentences on each line, with a tab between them. `"sample"` is a small grammar
# that writes Spanish and English: it needs no download.

# %% tags=["parameters"]
source = "download"  # 118,964 pairs of tatoeba.org and manythings.org/anki (CC BY 2.0): 2.6 MB
epochs = 3
units = 224

# %% [markdown]
# ## Look at the data
#
# A `DataModule` knows where the data comes from, how it is split, and how a batch is made. Many sentences occur more than once
# here. Pairs that share a sentence, on either side, are on the same side of the split: no test sentence was seen in training.
# To be quick, training leaves out sentences of more than 14 pieces (see below), and held-out ones are cut there.

# %%
data = TranslationData(
    source, vocabulary="subword" if source == "download" else "word",
    vocabulary_size=3000 if source == "download" else None, max_length=14, batch_size=128, val_fraction=0.01,
)  # fmt: skip
data.prepare_data()
data.setup("fit")
examples, references = data.sources("validation"), data.references("validation")
print(f"{len(data.sources('train')):,} pairs to train on, {len(examples):,} sentences held out")
for place in range(0, len(examples), -(-len(examples) // 5)):
    print(f"{examples[place]:45} {' | '.join(references[place][:3])}")

# %% [markdown]
# ### Sentences as numbers
#
# A network reads numbers, so a vocabulary gives a number to every word. Tatoeba has more than 20,000 different Spanish words,
# most of them rare. A vocabulary of *pieces of words* is smaller, and knows every word: rare ones are put together of pieces.
# (The sample's vocabulary has whole words.)

# %%
middle = len(examples) // 2  # they come by their lengths
ids = data.encode(examples[middle])
print(examples[middle])
print(data.source_vocabulary.labels(ids))
print(ids.tolist())

# %% [markdown]
# ### Teacher forcing
#
# In training the decoder does not read what it has written itself. At every place it is given the *right* words so far, and is
# asked for the next one. So all places of a sentence are learned at once, and an early mistake does not spoil the rest. The
# teacher corrects after every word.

# %%
target = np.append([lk.text.START], data.target_vocabulary.encode_texts(references[middle][:1])[0])
target = np.append(target, [lk.text.END])
print("is given:     ", data.target_vocabulary.labels(target[:-1]))
print("is asked for: ", data.target_vocabulary.labels(target[1:]))

# %% [markdown]
# When it translates, nobody gives it the right words: it reads its own. What it does then is another question, and needs
# another measure (see BLEU below).
#
# ## The network
#
# - Two recurrent layers (GRU) read the Spanish sentence, one from the front and one from the back. So there are two vectors
#   for every word, which know the words before and after it: the *memory*.
# - The decoder is a GRU too. Before each word it compares its state $s$ with the vector $h_j$ of every Spanish word:
#
#   $$e_j = v^\top \tanh(W s + U h_j + b), \qquad a_j = \frac{\exp e_j}{\sum_k \exp e_k}, \qquad c = \sum_j a_j h_j$$
#
#   The weights $a_j$ are positive and add up to 1: they say how much it looks at word $j$. It reads the mixture $c$ together
#   with its newest word. $W$, $U$, $v$ and $b$ are learned; nobody tells it which words belong together.
#
# `lk.layers.GRU` is Keras' layer, faster on processors. `lk.layers.TokenDecoder` is a GRU with this attention and the scores
# of the vocabulary. Everything that does not depend on the step before is computed for all steps at once.
#
# ## The task
#
# A `TaskModule` is a `keras.Model` with its losses and its optimizer. `token_losses` returns *sums*: the nats of all tokens
# and their number. The library divides once, for the whole batch, so sentences of different lengths count by their words.


# %%
class Translator(lk.TaskModule):
    data_module = TranslationData
    unit = "tokens"
    shown_metrics = ("loss", "val_loss", "val_bleu")
    score_names = ("bleu",)
    monitor = ("val_bleu", "max")
    prefer_jit_compile = False

    def __init__(self, units, width=128, dropout=0.1, learning_rate=4e-3):
        super().__init__()

    def configure_model(self, data):
        h = self.hparams
        near_one = keras.initializers.RandomNormal(stddev=h.width**-0.5)  # the length of a word's vector
        self.data = data
        self.source_embedding = layers.Embedding(len(data.source_vocabulary), h.width, near_one)
        self.target_embedding = layers.Embedding(len(data.target_vocabulary), h.width, near_one)
        self.target_embedding.build((None, None))  # it also scores the words, by their likeness to what is to be said
        self.dropout = layers.Dropout(h.dropout)
        half = h.units // 2
        self.forwards = lk.layers.GRU(half, return_sequences=True, return_state=True)
        self.backwards = lk.layers.GRU(half, return_sequences=True, return_state=True, go_backwards=True)
        self.decoder = lk.layers.TokenDecoder(self.target_embedding, h.units, "gru", h.dropout, tie_embeddings=True)
        self.searcher = lk.decoding.CompiledSearch(
            self, tf.TensorSpec((None, None), tf.int32), max_length=lambda lengths: 2 * lengths + 10
        )

    def configure_optimizers(self):
        return keras.optimizers.Adam(lk.schedules.warmup_cosine(self.hparams.learning_rate, 200, self.total_steps))

    def train_step(self, batch):
        return self.minimize(self.token_losses, batch)

    def test_step(self, batch):
        return self.evaluate_loss(self.token_losses, batch)

    def read(self, source, training=False):
        """The memory (batch, words, units), its summary (batch, units), and where it has words (batch, words)."""
        mask = source != lk.text.PAD
        embedded = self.dropout(self.source_embedding(source), training=training)
        first, state = self.forwards(embedded, mask=mask)
        last, other_state = self.backwards(embedded, mask=mask)
        memory = tf.concat([first, tf.reverse(last, [1])], -1)
        return memory, tf.concat([state, other_state], -1), mask

    def predict_step(self, batch, training=False):
        """Scores every next word: logits (batch, time, vocabulary), and where each looked (batch, time, words)."""
        return self.decoder(batch["target"][:, :-1], *self.read(batch["source"], training), training=training)

    def token_losses(self, batch, training):
        logits, _ = self.predict_step(batch, training)
        wanted = batch["target"][:, 1:]
        weights = tf.cast(wanted != lk.text.PAD, tf.float32) * batch["weight"][:, None]
        return lk.losses.token_sums(logits, wanted, weights, label_smoothing=0.1 if training else 0.0)

    # ---- translating: the two methods that a search asks for

    def encode(self, source):
        return self.decoder.start(*self.read(source))

    def next(self, ids, states):
        return self.decoder.next(ids, states)

    def search(self, texts, **options):
        """The best translation of each text, with its attention."""
        return [best for (best,) in self.searcher.search([self.data.encode(text) for text in texts], **options)]

    def translate(self, texts, **options):
        return [self.data.decode(found.ids) for found in self.search(texts, **options)]

    def score(self, batches):
        """BLEU of the greedy translations of all held-out sentences."""
        total = self.data.bleu.zero()
        for batch in batches:
            kept = batch["weight"].numpy() > 0
            found = self.searcher.search_batch(batch["source"].numpy()[kept])
            texts = [self.data.decode(best.ids) for (best,) in found]
            total += self.data.bleu.from_sentences(texts, self.data.references_at(batch["index"].numpy()[kept]))
        return {"bleu": total}

    def write_samples(self, folder, name):
        """After every epoch: translations of eight held-out sentences."""
        some = examples[:: -(-len(examples) // 8)]
        lines = [f"{text}\n  -> {found}" for text, found in zip(some, self.translate(some), strict=True)]
        (folder / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")


# %% [markdown]
# ## Before training
#
# `lk.show` prints what a run will be: the splits, examples, the weights, and how long it will take, from a few timed updates of
# a copy. It trains nothing.

# %%
task = Translator(units)
options = {"max_epochs": epochs, "gradient_clip_val": 1.0, "seed": 0}
print(lk.show(task, data, **options))

# %% [markdown]
# ## Train
#
# In a notebook the Trainer shows a bar with the remaining time of the whole run. Beneath are the curves, and the translations
# of the same sentences after each epoch.

# %%
trainer = lk.Trainer(**options, enable_model_summary=False)
history = trainer.fit(task, data)

# %% [markdown]
# ## What BLEU counts
#
# BLEU (Papineni et al. 2002) compares a translation with one or more references: how many of its words are in a reference, how
# many of its pairs of words, of its triples, of its groups of four? The four shares are multiplied, and the fourth root is
# taken; a translation that is too short is punished. 100 is a reference itself.

# %%
reference = "I left my phone in the conference room."
for translation in (
    "I left my phone in the conference room.",
    "I left my telephone in the conference room.",
    "I forgot my telephone in the meeting room.",
    "I left my phone.",
    "Room conference the in phone my left I.",
):
    print(f"{lk.metrics.BLEU.from_sentences([translation], [[reference]]).result():5.1f}  {translation}")

# %% [markdown]
# The second and the third are good translations, yet they lose many points: BLEU knows no synonyms. The fourth leaves out half
# of the sentence, and has more points than the third. The last has all the words and no order. So BLEU says little about one
# sentence. Over a thousand sentences it ranks translators well, if the sentences are the same.
#
# ## BLEU beside perplexity
#
# The *perplexity* is measured with the teacher: how many words does the network hesitate between, if all words so far are the
# right ones? BLEU is measured without: the network reads its own words, and one wrong word leads to others. The first is cheap
# and smooth, the second is what a reader gets. Both improve, but not by the same steps; `monitor = ("val_bleu", "max")`
# keeps the checkpoint with the best BLEU.

# %%
losses = history.history
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
for name, label in (("perplexity", "training"), ("val_perplexity", "held out")):
    axes[0].plot(range(1, len(losses[name]) + 1), losses[name], marker="o", label=label)
axes[0].set(xlabel="epochs", ylabel="perplexity", yscale="log")
axes[0].legend()
axes[1].plot(range(1, len(losses["val_bleu"]) + 1), losses["val_bleu"], marker="o", color="tab:green")
axes[1].set(xlabel="epochs", ylabel="BLEU, held out", ylim=(0, None))
plt.show()
print(f"In the end it hesitates between {losses['val_perplexity'][-1]:.1f} of {len(data.target_vocabulary):,} pieces.")

# %% [markdown]
# ### With the teacher, and without
#
# Below is a held-out sentence. On the left what the network is given, then what it holds for the most probable next word, and
# how sure it is. Where it is wrong, the next line goes on with the right word all the same.

# %%
place = middle
target = [lk.text.START, *data.target_vocabulary.encode_texts(references[place][:1])[0], lk.text.END]
batch = {"source": data.encode(examples[place])[None], "target": np.array([target], "int32")}
logits, _ = task.predict_step(batch)
probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]  # (time, vocabulary)
labels = data.target_vocabulary.labels(target)
print(examples[place])
for given, wanted, row in zip(labels[:-1], labels[1:], probabilities, strict=True):
    (guess,) = data.target_vocabulary.labels([row.argmax()])
    print(f"  after {given:14} {guess:14} {row.max():4.0%}  {'' if guess == wanted else 'wrong: ' + wanted}")
print("Without the teacher:", task.translate([examples[place]])[0])

# %% [markdown]
# ## Translate
#
# *Greedy* takes the most probable word each time. A *beam* of 5 keeps the five best beginnings, and so can take back a word
# that turns out to lead nowhere. Below are held-out sentences from short to long, chosen by their places alone. Three epochs
# are little: common words and forms are right, rare words are guessed, or put together of pieces to words that do not exist.

# %%
for place in range(len(examples) // 16, len(examples), len(examples) // 8):
    greedy, beam = (task.translate([examples[place]], beam_size=size, length_penalty=1.0)[0] for size in (1, 5))
    print(f"{examples[place]}\n    greedy     {greedy}\n    5 beams    {beam}\n    reference  {references[place][0]}")

# %% [markdown]
# ## Where it looked
#
# A row for each word of the translation, a column for each word of the source; the darker, the more it looked. A "▁" marks the
# beginning of a word.


# %%
def show_attention(text):
    (found,) = task.search([text], beam_size=5, length_penalty=1.0)
    columns = [label.replace(lk.text.JOIN, "") for label in data.source_vocabulary.labels(data.encode(text))]
    rows = [label.replace(lk.text.JOIN, "") for label in data.target_vocabulary.labels(found.ids)]
    size = (1.5 + 0.4 * len(columns), 1.2 + 0.34 * len(rows))
    _, axes = plt.subplots(figsize=size, layout="constrained")
    axes.imshow(found.attention, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="left")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    plt.show()
    return columns, rows, found.attention


own = "Mi hermano quiere comprar una casa nueva."
columns, rows, attention = show_attention(own if source == "download" else examples[0])
for row, weights in zip(rows, attention, strict=True):
    print(f"{row:12} looked at {columns[weights.argmax()]} ({weights.max():.0%})")

# %% [markdown]
# Most of it follows the order of the words. Where Spanish puts the adjective behind the noun, the dark fields cross. The map
# shows what the decoder *reads*, which need not be the word that we would point at: the vector of a word also knows its
# neighbours, so the network may just as well look beside it.

# %%
_ = show_attention("¿Dónde está el coche rojo de tu padre?" if source == "download" else examples[-1])

# %% [markdown]
# A map also shows what went wrong. If the translation leaves out whose car it is, as here after three epochs, then no row has
# its darkest field at "padre": the decoder ended the sentence before it had read all of it. `coverage_penalty=0.2` in a search
# favours translations that leave nothing out (Wu et al. 2016).
#
# ## A large batch in little memory
#
# A batch of 128 pairs may be too large for a small machine. `micro_batches=4` computes every update in four parts of 32 pairs,
# one after the other, with a quarter of the memory for the activations. It makes the same update, up to the rounding of
# floating-point numbers, because the library adds up sums and numbers of words, and divides at the end. A mean of four means
# would be wrong: the parts have different numbers of words.
#
# (Dropout is off in both runs: it draws other units for a part than for a whole batch. A step is always one update, so
# learning rates, logs and checkpoints are the same in both.)


# %%
def train(micro_batches):
    task = Translator(units, dropout=0.0)
    trainer = lk.Trainer(max_steps=8, seed=1, micro_batches=micro_batches, limit_val_batches=0, enable_checkpointing=False,
                         logger=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(task, data)
    return task.get_weights()


differences = [np.abs(a - b).max() for a, b in zip(train(1), train(4), strict=True)]
print(f"After 8 updates, none of {len(differences)} arrays of weights differs by more than {max(differences):.0e}")

# %% [markdown]
# ## What is left of it
#
# The run's folder holds everything. `report.html` is a page to open in a browser, a single file: the curves, the translations
# of all epochs, where the time went, and the whole configuration. A checkpoint is enough to translate: the vocabularies are
# in it, and the data is not read. From a run's folder, the checkpoint with the best BLEU is taken. A run that was stopped is
# resumed by `ckpt_path="last"`, in the middle of an epoch, and ends with the same bits:
# [the notebook of DCGAN](../dcgan/dcgan.ipynb) shows it.

# %%
print(*sorted(path.name for path in trainer.run_dir.iterdir()), sep="\n")

# %%
again = Translator.load_from_checkpoint(trainer.run_dir)
print(again.translate([examples[middle]])[0])

# %% [markdown]
# ## Where lightkeras saved you work
#
# | you would have written | here |
# | --- | --- |
# | a loop over epochs, validation, checkpoints, logs | `Trainer(...).fit(task, data)` |
# | means over batches of different lengths, replicas and micro-batches | the loss is a (sum, weight); the library divides once |
# | a decoder that runs step by step in training, or its fast form | `lk.layers.TokenDecoder` |
# | greedy and beam search in a compiled loop | `lk.decoding.CompiledSearch` |
# | batches of sentences of similar length, a split without leaks | `TranslationData` |
# | a restart that finds the epoch, the batch, Adam's moments and the random numbers again | `ckpt_path=...` |
#
# Next: a language of your own by `source = "my_pairs.tsv"`, or [the whole task](README.md) by `lightkeras fit translation`:
# it is larger, trains for longer, and reaches a BLEU of 53.
