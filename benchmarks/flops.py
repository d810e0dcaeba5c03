"""Floating-point operations of one update, counted from a model's sizes: the products alone.

`count_update` is what our update executes; lightkeras counts the same in the graph. `count_model` is what the model
asks for, whoever trains it: speeds of competitors are compared by it.

A product of (m, k) and (k, n) counts 2 m k n, a convolution 2 x kernel's size x places it is applied at; element-wise
operations, look-ups and the optimizer count nothing. The backward pass of a product is two products, so an update
counts three times its forward pass. Of a GAN with one shared forward pass, the discriminator's gradient with respect to
the generated images is needed for the generator too: see `dcgan`.
"""

from benchmarks.report import machine
from lightkeras.profiling.peaks import peak_of


def count_model(task: str, sizes: dict) -> float:
    """Of the common model of a task of `shapes.TASKS`, each layer at every place: the same for every competitor."""
    count = {"dcgan": dcgan, "translation": translation, "captioning": captioning}.get(task, text)
    return count(**sizes)


def count_update(task: str, sizes: dict) -> float:
    """What our update of a task executes: `count_model`, less what it saves, and what it computes again.

    The text's layers multiply the table of embeddings once, not every character (see `lightkeras/layers/recurrent.py`).
    The attending decoders compute contexts and their gradient again outside of the loop over words (see
    `lightkeras/layers/attention_loops.py`). Features need no gradient.
    """
    count, batch, units = count_model(task, sizes), sizes["batch"], sizes.get("units", 0)
    if task == "dcgan":
        return count
    if task in ("text", "text_lstm"):
        saved = batch * sizes["time"] - sizes["vocabulary"]
        gates = {"gru": 3, "lstm": 4}[sizes["cell"]]
        return count - 3 * 2 * max(0, saved) * gates * units * sizes["embedding"]
    again = sizes["words"] * (3 * units * units + 3 * sizes["slots"] * units)
    return count + 2 * batch * (again - sizes["slots"] * sizes.get("channels", 0) * units)


def used(task: str, sizes: dict, updates: float, half: bool = False) -> dict[str, float]:
    """Columns of a table at so many updates a second: GFLOP/s of the model; of a known GPU, the share of its peak."""
    rate, most = updates * count_model(task, sizes), peak(machine()["gpus"], half)
    return {"GFLOP/s": rate / 1e9, **({"of the peak": rate / most} if most else {})}


def peak(gpus: list[str], half: bool = False) -> float | None:
    """FLOP/s that the first GPU is capable of, or None where its name is not known."""
    return peak_of(gpus[0], half) if gpus else None


def text(vocabulary, embedding, units, layers, cell, batch, time) -> float:
    """Recurrent layers and the dense layer to the vocabulary, at every character."""
    gates = {"gru": 3, "lstm": 4}[cell]
    inputs = [embedding, *[units] * (layers - 1)]
    of_character = sum(gates * units * (width + units) for width in inputs) + units * vocabulary
    return 3 * 2 * of_character * batch * time


def translation(vocabulary, embedding, units, batch, slots, words) -> float:
    """Encoder and keys at every slot, attending decoder and scores at every word."""
    of_slot = 3 * units * (embedding + units) + units * units
    return 3 * 2 * batch * (slots * of_slot + words * _of_word(vocabulary, embedding, units, slots) + units * units)


def captioning(vocabulary, embedding, units, batch, slots, words, channels) -> float:
    """Projection and keys at every slot, attending decoder and scores at every word."""
    of_slot = channels * units + units * units
    return 3 * 2 * batch * (slots * of_slot + words * _of_word(vocabulary, embedding, units, slots) + units * units)


def _of_word(vocabulary, embedding, units, slots) -> int:
    attention = units * units + slots * units + slots * units  # the query; scores of the slots; the context
    cell = 3 * units * (embedding + units + units)
    return attention + cell + (2 * units + embedding) * embedding + embedding * vocabulary


def dcgan(side, noise, filters, batch, **_) -> float:
    """Both networks' updates from one forward pass.

    The generator once and the discriminator twice forwards. Backwards the generator costs twice its forward pass, the
    discriminator twice for real images; for generated ones, its weights' gradient once and its inputs' gradient twice,
    as the two losses differ.
    """
    quarter = side // 4
    kernel = 25
    generator = noise * quarter**2 * 4 * filters + quarter**2 * kernel * 4 * filters * 2 * filters
    generator += quarter**2 * kernel * 2 * filters * filters + (side // 2) ** 2 * kernel * filters
    discriminator = (side // 2) ** 2 * kernel * filters + quarter**2 * kernel * filters * 2 * filters
    discriminator += quarter**2 * 2 * filters
    return 2 * batch * (3 * generator + 3 * discriminator + 4 * discriminator)
