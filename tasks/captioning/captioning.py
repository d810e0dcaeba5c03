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
# # What a picture shows, in words, and where the network looked
#
# A network that was trained to tell a thousand things apart has learned to see. We keep it as it is, *frozen*, and train a
# small decoder that turns what it sees into a sentence. Before every word the decoder looks at the picture and decides which
# place of it matters now: *attention* (Xu et al. 2015).
#
# You will see
#
# - what a frozen network gives, and why it is computed once and not in every epoch,
# - a captioner of a few Keras layers, with its training step,
# - captions of photos that it has never seen, the good ones and the bad ones,
# - where it looked for each word: on photos, and on drawn scenes where we know the answer. The two tell different stories.
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
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import layers
from matplotlib_inline.backend_inline import set_matplotlib_formats

import lightkeras as lk
from tasks.captioning import CaptionData
from tasks.captioning.figures import light
from tasks.captioning.model import PixelGrid

tf.get_logger().setLevel("ERROR")  # several trainings in one notebook: TensorFlow would give advice on loops
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 80})  # photos as PNG would make the notebook large

# %% [markdown]
# ## Choose
#
# `source` may be a file of your own with photos and captions (see [the data](README.md#data)), or `"download"`: photos of COCO.
# Here it is 1,461 photos of Flickr8k and COCO, if the folder that `LIGHTKERAS_DATA` names has them, and else `"sample"`: drawn
# scenes, which need no download. (The photos belong to their authors on Flickr: for research and education only.)

# %% tags=["parameters"]
kept = Path(os.environ.get("LIGHTKERAS_DATA", "no folder"))
source = "coco+flickr8k" if (kept / "flickr8k").is_dir() and (kept / "coco").is_dir() else "sample"
epochs = 7
units = 192
scenes, scene_epochs = 3000, 5

# %% [markdown]
# ## Look at the data
#
# Each photo has five captions by five people. A photo is on one side of the split with all of them: otherwise the network
# would be tested on photos that it knows.
#
# MobileNetV2 sees a photo as a grid of 7 x 7 places, with 1,280 numbers for each. Its weights do not change in our training.
# So its numbers for a photo never change either, and `prepare_data` computes them once and keeps them in files. It takes the
# weights that were trained on ImageNet.

# %%
options = {"max_images": scenes, "image_size": 48}
if source != "sample":
    weights = kept / "pretrained" / "mobilenet_v2_imagenet_no_top.weights.h5"
    options = {"encoder": "MobileNetV2", "features_dir": "features", "vocabulary_size": 1650, "max_length": 18}
    options |= {"encoder_weights": shutil.copy(weights, "mobilenet_v2.weights.h5")} if weights.exists() else {}
data = CaptionData(source, **options)
began = time.perf_counter()
data.prepare_data()
seconds = time.perf_counter() - began
data.setup("fit")
photos = {split: len(data.references(split)) for split in ("train", "validation", "test")}
print(f"Photos: {photos}; features computed in {seconds:.0f} seconds")
print(f"{sum(map(len, data.references('train'))):,} captions to train on; {len(data.vocabulary):,} words")
print(f"What the decoder gets of a photo: {data.input_shape}")


# %%
def show(images, titles=(), columns=8):
    """Shows pictures uint8 (n, height, width, 3) in rows."""
    rows = -(-len(images) // columns)
    _, axes = plt.subplots(rows, columns, figsize=(1.35 * columns, 1.55 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, [*titles, *[""] * len(images)], strict=False):
        axis.imshow(image)
        axis.set_title(title, fontsize=10)
    plt.show()


show([data.image("train", place, 120) for place in range(8)])
for caption in data.references("train")[0]:
    print("first photo:", caption)

# %% [markdown]
# ### Teacher forcing
#
# In training the decoder does not read what it has written itself. At every place it is given the *right* words so far, and is
# asked for the next one. So all places of a caption are learned at once, and an early mistake does not spoil the rest. When
# it describes a photo, it reads its own words. Rare words have no number of their own: they are `<unk>`, which is never
# written.

# %%
caption = data.encode_caption(lk.metrics.tokenize_caption(data.references("train")[0][0]).split())
written = caption[caption != lk.text.PAD]
print("is given:     ", data.vocabulary.labels(written[:-1]))
print("is asked for: ", data.vocabulary.labels(written[1:]))

# %% [markdown]
# ## The task
#
# A dense layer shortens the numbers of each place. The decoder is a GRU that starts from their mean. Before each word it gives
# every place a weight, from its state and the place's numbers; the weights are positive and add up to 1. It reads the places,
# mixed by these weights, together with its newest word. ([The notebook of translation](../translation/translation.ipynb) has
# the formula.)
#
# A `TaskModule` is a `keras.Model` with its losses and its optimizer. `word_losses` returns *sums*: the nats of all words and
# their number; the library divides once, for the whole batch.
#
# The score is CIDEr-D (Vedantam et al. 2015): it compares a caption with five references by groups of one to four words, and
# a group counts the more, the fewer photos it is said of. So "a" is worth nothing and "trampoline" much. It goes from 0 to
# 10, but people do not reach 10 either (see below).


# %%
class Captioner(lk.TaskModule):
    data_module = CaptionData
    unit = "words"
    shown_metrics = ("loss", "val_loss", "val_cider")
    score_names = ("cider",)
    monitor = ("val_cider", "max")
    prefer_jit_compile = False

    def __init__(self, units, width=128, dropout=0.5, smoothing=0.1, learning_rate=2e-3, start_from_mean=True):
        super().__init__()

    def configure_model(self, data):
        h = self.hparams
        self.data = data
        self.grid = PixelGrid() if data.input_name == "image" else None  # scenes: three convolutions, trained too
        self.projection = layers.Dense(h.units, "relu")
        self.dropout = layers.Dropout(h.dropout)
        self.embedding = layers.Embedding(
            len(data.vocabulary), h.width, keras.initializers.RandomNormal(stddev=h.width**-0.5)
        )
        self.embedding.build((None, None))  # it also scores the words, by their likeness to what is to be said
        self.decoder = lk.layers.TokenDecoder(
            self.embedding, h.units, "gru", h.dropout, tie_embeddings=True, start_from_summary=h.start_from_mean
        )
        self.searcher = lk.decoding.CompiledSearch(
            self, tf.TensorSpec((None, *data.input_shape), tf.float32), max_length=data.caption_length - 1,
            forbidden=(lk.text.PAD, lk.text.UNKNOWN, lk.text.START),
        )  # fmt: skip

    def configure_optimizers(self):
        return keras.optimizers.Adam(lk.schedules.warmup_cosine(self.hparams.learning_rate, 60, self.total_steps))

    def train_step(self, batch):
        return self.minimize(self.word_losses, batch)

    def test_step(self, batch):
        return self.evaluate_loss(self.word_losses, batch)

    def look(self, inputs, training=False):
        """The places (batch, places, units), and their mean (batch, units)."""
        features = inputs if self.grid is None else self.grid(inputs)
        memory = self.dropout(self.projection(features), training=training)
        return memory, tf.reduce_mean(memory, axis=1)

    def word_losses(self, batch, training):
        given, wanted = batch["caption"][:, :-1], batch["caption"][:, 1:]  # (batch, time)
        memory, mean = self.look(batch[self.data.input_name], training)
        logits, _ = self.decoder(given, memory, mean, training=training)  # (batch, time, words)
        weights = tf.cast(wanted != lk.text.PAD, tf.float32) * batch["weight"][:, None]
        return lk.losses.token_sums(logits, wanted, weights, self.hparams.smoothing if training else 0.0)

    # ---- captioning: the two methods that a search asks for

    def encode(self, inputs):
        return self.decoder.start(*self.look(inputs))

    def next(self, ids, states):
        return self.decoder.next(ids, states)

    def search(self, inputs, **options):
        """The best caption of each picture: its words, and the attention of each (words, places)."""
        found = [best for (best,) in self.searcher.search(inputs, **options)]
        return [(self.data.vocabulary.labels(one.ids), one.attention) for one in found]

    def caption(self, inputs, **options):
        return [sentence(words) for words, _ in self.search(inputs, **options)]

    def score(self, batches):
        """CIDEr-D of the greedy captions of all held-out photos."""
        texts, references = [], []
        for batch in batches:
            kept = batch["weight"].numpy() > 0
            texts += self.caption(batch[self.data.input_name].numpy()[kept])
            references += tokenize(self.data.references_at(batch["photo"].numpy()[kept]))
        return {"cider": cider(texts, references)}

    def write_samples(self, folder, name):
        """After every epoch: captions of six held-out photos."""
        texts = self.caption(next(self.data.inputs("validation"))[:6])
        (folder / f"{name}.txt").write_text("\n".join(texts), encoding="utf-8")


def sentence(words):
    return " ".join(words).removesuffix("</s>").strip()


def tokenize(captions):
    return [[lk.metrics.tokenize_caption(caption) for caption in same_photo] for same_photo in captions]


def cider(texts, references):
    return lk.metrics.CIDErD.from_sentences(texts, references, lk.metrics.DocumentFrequencies(references))


# %% [markdown]
# ## Before training
#
# `lk.show` prints what a run will be: the splits, examples, the weights, and how long it will take, from a few timed updates of
# a copy. It trains nothing.

# %%
fast = {"width": 64, "dropout": 0.0, "smoothing": 0.0, "learning_rate": 8e-3, "start_from_mean": False}  # for scenes
task = Captioner(units, **(fast if source == "sample" else {}))
print(lk.show(task, data, max_epochs=epochs, gradient_clip_val=5.0, seed=0))

# %% [markdown]
# ## Train
#
# In a notebook the Trainer shows a bar with the remaining time of the whole run. Beneath are the curves, and the captions of
# the same photos after each epoch.

# %%
trainer = lk.Trainer(max_epochs=epochs, gradient_clip_val=5.0, seed=0, enable_model_summary=False)
history = trainer.fit(task, data)

# %% [markdown]
# In the last epochs the loss of held-out photos hardly falls any more, and the captions still improve: the loss asks for the
# very words of one person, CIDEr-D for what five people agree on. (Dropout and label smoothing make the training loss larger
# than it is.)

# %%
values = history.history
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
for name, label in (("loss", "training"), ("val_loss", "held out")):
    axes[0].plot(range(1, len(values[name]) + 1), values[name], marker="o", label=label)
axes[0].set(xlabel="epochs", ylabel="nats per word")
axes[0].legend()
axes[1].plot(range(1, len(values["val_cider"]) + 1), values["val_cider"], marker="o", color="tab:green")
axes[1].set(xlabel="epochs", ylabel="CIDEr-D, held out", ylim=(0, None))
plt.show()

# %% [markdown]
# ## Captions
#
# `ckpt_path=` takes the weights of the epoch with the best CIDEr-D, from the run's folder. The test photos were used for
# nothing so far. A figure alone says little, so beside it are that of one sentence for all photos, and that of people.

# %%
found = trainer.test(task, data, ckpt_path=str(trainer.run_dir))
references = tokenize(data.references("test"))
training = tokenize(data.references("train"))
usual, _ = Counter(caption for same_photo in training for caption in same_photo).most_common(1)[0]
people = cider([captions[0] for captions in references], [captions[1:] for captions in references])
print(f"CIDEr-D of {len(references)} test photos: {found['test_cider']:.3f}")
print(
    f"  of the most frequent training caption for every photo: {cider([usual] * len(references), references).result():.3f}"
)
print(f"  of one person's captions, compared with the other four: {people.result():.3f}")

# %% [markdown]
# The first eight test photos, as they come. The search keeps the three best beginnings.

# %%
inputs = next(data.inputs("test"))[:8]
captions = task.search(inputs, beam_size=3, length_penalty=1.0)
pictures = [data.image("test", place, 240) for place in range(len(inputs))]
show(pictures, titles=range(1, 9))
for number, (words, _) in enumerate(captions):
    print(f"{number + 1}  {sentence(words)}")
    print(f"   a person: {references[number][0]}")

# %% [markdown]
# So few photos teach the common scenes: dogs, grass, beaches, snow, shirts. What is rare (a handstand, a climber, a bicycle in
# the air) is described as something common. With more epochs and a wider network, [the whole task](README.md#photos) reaches
# 0.351 on the same test photos.
#
# ## Where it looked
#
# Each panel is light where the word looked.


# %%
def show_attention(picture, words, attention):
    show([picture, *(light(picture, weights) for weights in attention)], ["", *words], columns=7)


def movement(captions):
    """How far the look moves from word to word: 0, it stays; 1, no place is looked at twice."""
    moved = [np.abs(np.diff(attention, axis=0)).sum(axis=1).mean() / 2 for _, attention in captions]
    return float(np.mean(moved))


for number in (0, 1):
    show_attention(pictures[number], *captions[number])
print(f"From word to word, {movement(captions):.0%} of the attention moves to other places.")

# %% [markdown]
# On photos the panels of one caption resemble each other: it looks in much the same way whatever it says, and seldom at the
# thing that the word names. That is not what the famous pictures of this method show, but it is what happens here, and it is no
# mistake in the code (see below). Each of the 49 places of MobileNetV2's last grid has seen most of the photo, through some
# fifty layers of convolutions. Every place knows that there is a dog. So the decoder has little to gain by looking for it, and
# nothing teaches it to.
#
# ## Where the answer is known
#
# Let us make a world in which looking is worthwhile. A drawn scene has one or two coloured shapes. Three small convolutions
# see little more of it than one place each, and the decoder starts from zeros, not from the mean of the places. Now it knows
# only what it looks at. The same class is trained, the convolutions with it.

# %%
drawn = CaptionData("sample", image_size=48, max_images=scenes)
drawn.prepare_data()
drawn.setup("fit")
pictures = [drawn.image("test", place, 120) for place in range(8)]
show(pictures)
print("first scene:", " | ".join(drawn.references("test")[0]))

# %%
looking = Captioner(min(units, 128), **fast)
second = lk.Trainer(max_epochs=scene_epochs, gradient_clip_val=1.0, seed=0, enable_model_summary=False)
_ = second.fit(looking, drawn)

# %%
inputs = next(drawn.inputs("test"))
captions = looking.search(inputs, beam_size=3, length_penalty=1.0)
for number in (0, 1):
    show_attention(pictures[number], *captions[number])
print(f"From word to word, {movement(captions):.0%} of the attention moves to other places.")

# %% [markdown]
# Nobody told it where things are: it was given pictures and sentences. Yet each colour and each shape looks at its object. How
# much of the attention lies on the object that the word names?

# %%
names = {
    name
    for place in range(len(inputs))
    for one in drawn.scene("test", place).objects
    for name in (one.colour, one.shape)
}
shares, right = [], 0
for place, (words, attention) in enumerate(captions):
    scene = drawn.scene("test", place)
    shares += [scene.attended(word, weights) for word, weights in zip(words, attention, strict=True) if word in names]
    right += sentence(words) in tokenize(drawn.references("test"))[place]
print(f"{right} of {len(captions)} scenes are described word for word as a person would")
print(f"{np.mean(shares):.0%} of the attention of the {len(shares)} words for colours and shapes lies on their object")

# %% [markdown]
# So an attention map shows what the decoder *read*, not why it chose a word. Where the features of a place are about this
# place, the map points at the thing. Where every place knows everything, it points nowhere, and the captions are none the
# worse.
#
# ## What is left of it
#
# The run's folder holds everything. `report.html` is a page to open in a browser, a single file: the curves, the captions of
# all epochs, where the time went, and the whole configuration. A checkpoint is enough to describe a picture: the vocabulary
# is in it, and the captions are not read again. A run that was stopped is resumed by `ckpt_path="last"`, in the middle of an
# epoch, and ends with the same bits: [the notebook of DCGAN](../dcgan/dcgan.ipynb) shows it.

# %%
print(*sorted(path.name for path in trainer.run_dir.iterdir()), sep="\n")

# %%
again = Captioner.load_from_checkpoint(trainer.run_dir)
print(again.caption(next(data.inputs("test"))[2:3])[0])

# %% [markdown]
# ## Where lightkeras saved you work
#
# | you would have written | here |
# | --- | --- |
# | the features of all photos in files, and a check that they belong to these photos and this network | `CaptionData.prepare_data` |
# | a loop over epochs, validation, the best checkpoint, logs | `Trainer(...).fit(task, data)` |
# | means over captions of different lengths | the loss is a (sum, weight); the library divides once |
# | a decoder that runs step by step in training, or its fast form | `lk.layers.TokenDecoder` |
# | greedy and beam search in a compiled loop, with the attention of every word | `lk.decoding.CompiledSearch` |
# | CIDEr-D, BLEU, ROUGE-L as the COCO evaluation computes them | `lk.metrics` |
# | a restart in the middle of an epoch | `ckpt_path=...` |
#
# Next: photos of your own by `source = "my_photos/captions.csv"`, or [the whole task](README.md) by
# `lightkeras fit captioning`, with 6,000 photos of COCO and a larger network.
