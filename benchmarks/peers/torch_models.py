"""The four tasks' models in PyTorch, as people write them: the same networks, losses and optimizers as ours.

A model has `optimizers()` and `step(batch, optimizers, backward)`, which makes one update. Models of one loss have
`loss(batch)` as well. What padding needs is left out, as the peers' data has none.
"""

import torch
from torch import nn
from torch.nn import functional

SLOPE = 0.3


class Model(nn.Module):
    """A model of one loss and one Adam."""

    def optimizers(self) -> list:
        """A fused Adam, PyTorch's fastest."""
        return [torch.optim.Adam(self.parameters(), fused=True)]

    def step(self, batch, optimizers, backward) -> None:
        """One update."""
        (optimizer,) = optimizers
        optimizer.zero_grad(set_to_none=True)
        backward(self.loss(batch))
        optimizer.step()


class Classifier(Model):
    """Dense layers: the tiny model of `overhead`."""

    def __init__(self, features, width, layers, classes):
        super().__init__()
        widths = [features, *[width] * layers]
        hidden = [part for before in widths[:-1] for part in (nn.Linear(before, width), nn.ReLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, classes))

    def loss(self, batch):
        """Mean cross entropy of `batch["y"]` (rows,) given `batch["x"]` (rows, features)."""
        return functional.cross_entropy(self.layers(batch["x"]), batch["y"])


class Text(Model):
    """Embedding, `nn.GRU` or `nn.LSTM`, linear layer."""

    def __init__(self, vocabulary, embedding, units, layers, cell, **_):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.recurrent = kind(embedding, units, layers, batch_first=True)
        self.head = nn.Linear(units, vocabulary)

    def forward(self, ids, states=None):
        """Logits (batch, time, vocabulary) and the last states."""
        outputs, states = self.recurrent(self.embedding(ids), states)
        return self.head(outputs), states

    def loss(self, batch):
        """Mean nats per character."""
        logits, _ = self(batch["inputs"])
        return functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten().long())


# ---- attention


class AttendingDecoder(nn.Module):
    """A GRU that attends to a memory before every step, and the scores of the words.

    Args:
        vocabulary, embedding, units: Sizes.
        memory: Width of a slot.
        formulation: "hoisted": what does not depend on the state is computed for all steps at once. "stepwise": as
            tutorials write it, all of it in the loop.
    """

    def __init__(self, vocabulary, embedding, units, memory, formulation):
        super().__init__()
        self.formulation, self.width = formulation, embedding
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.bridge = nn.Linear(units, units)
        self.query, self.key = nn.Linear(units, units, bias=False), nn.Linear(memory, units)
        self.scale = nn.Linear(units, 1, bias=False)
        self.cell = nn.GRUCell(embedding + memory, units)
        self.readout = nn.Linear(units + memory + embedding, embedding)
        self.head = nn.Linear(embedding, vocabulary)

    def attend(self, state, keys, memory):
        """The context (batch, memory) of states (batch, units)."""
        scores = self.scale(torch.tanh(keys + self.query(state)[:, None]))  # (batch, slots, 1)
        return torch.bmm(scores.softmax(1).transpose(1, 2), memory)[:, 0]

    def loss(self, memory, state, words):
        """Mean nats per word of `words` (batch, time + 1), from `memory` (batch, slots, memory) and the first state."""
        given, wanted = words[:, :-1], words[:, 1:].long()
        if self.formulation == "hoisted":
            return functional.cross_entropy(self.all_steps(memory, state, given).flatten(0, 1), wanted.flatten())
        loss = 0.0
        for t in range(given.shape[1]):
            logits, state = self.one_step(given[:, t], state, self.key(memory), memory)
            loss = loss + functional.cross_entropy(logits, wanted[:, t])
        return loss / given.shape[1]

    def one_step(self, ids, state, keys, memory):
        """Logits (batch, vocabulary) and the new state."""
        embedded = self.embedding(ids)
        context = self.attend(state, keys, memory)
        state = self.cell(torch.cat([embedded, context], -1), state)
        return self.score(state, context, embedded), state

    def score(self, state, context, embedded):
        """Logits (..., vocabulary)."""
        return self.head(torch.tanh(self.readout(torch.cat([state, context, embedded], -1))))

    def all_steps(self, memory, state, given):
        """Logits (batch, time, vocabulary); the cell is `nn.GRUCell`'s, its product with the inputs taken out."""
        keys, embedded = self.key(memory), self.embedding(given)  # (batch, time, embedding)
        of_inputs, of_context = self.cell.weight_ih.split([self.width, memory.shape[-1]], 1)
        projected = functional.linear(embedded, of_inputs, self.cell.bias_ih)  # (batch, time, 3 * units)
        states, contexts = [], []
        for t in range(given.shape[1]):
            context = self.attend(state, keys, memory)
            gates = projected[:, t] + functional.linear(context, of_context)
            state = _gru(gates, functional.linear(state, self.cell.weight_hh, self.cell.bias_hh), state)
            states.append(state)
            contexts.append(context)
        return self.score(torch.stack(states, 1), torch.stack(contexts, 1), embedded)


def _gru(inputs, inner, state):
    (r, z, n), (inner_r, inner_z, inner_n) = inputs.chunk(3, -1), inner.chunk(3, -1)
    r, z = torch.sigmoid(r + inner_r), torch.sigmoid(z + inner_z)
    return torch.lerp(torch.tanh(n + r * inner_n), state, z)


class Translation(Model):
    """An encoder GRU and an attending decoder."""

    def __init__(self, vocabulary, embedding, units, formulation="hoisted", **_):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.encoder = nn.GRU(embedding, units, batch_first=True)
        self.decoder = AttendingDecoder(vocabulary, embedding, units, units, formulation)

    def encode(self, source):
        """The memory (batch, slots, units) and the decoder's first state (batch, units)."""
        memory, (final,) = self.encoder(self.embedding(source))
        return memory, torch.tanh(self.decoder.bridge(final))

    def loss(self, batch):
        """Mean nats per word."""
        return self.decoder.loss(*self.encode(batch["source"]), batch["target"])


class Captioning(Model):
    """A projection of the photos' features, and an attending decoder."""

    def __init__(self, features, vocabulary, embedding, units, formulation="hoisted", **_):
        super().__init__()
        self.features = torch.as_tensor(features)
        self.projection = nn.Linear(self.features.shape[-1], units)
        self.decoder = AttendingDecoder(vocabulary, embedding, units, units, formulation)

    def loss(self, batch):
        """Mean nats per word."""
        memory = functional.relu(self.projection(self.features[batch["photo"]]))  # (batch, slots, units)
        return self.decoder.loss(memory, torch.tanh(self.decoder.bridge(memory.mean(1))), batch["caption"])


# ---- DCGAN


class Generator(nn.Module):
    """Noise (batch, noise) to images (batch, 1, side, side), by two strided transposed convolutions."""

    def __init__(self, side, noise, filters):
        super().__init__()
        self.side, depth = side // 4, 4 * filters
        self.dense = nn.Sequential(
            nn.Linear(noise, self.side**2 * depth, bias=False), _norm(nn.BatchNorm1d, self.side**2 * depth)
        )
        self.layers = nn.Sequential(
            _transposed(depth, 2 * filters, 1), _norm(nn.BatchNorm2d, 2 * filters), nn.LeakyReLU(SLOPE),
            _transposed(2 * filters, filters, 2), _norm(nn.BatchNorm2d, filters), nn.LeakyReLU(SLOPE),
            _transposed(filters, 1, 2), nn.Tanh(),
        )  # fmt: skip

    def forward(self, noise):
        """Images."""
        x = functional.leaky_relu(self.dense(noise), SLOPE)
        return self.layers(x.view(len(noise), -1, self.side, self.side))


def _norm(kind, features):
    return kind(features, eps=1e-3, momentum=0.01)


def _transposed(before, after, stride):
    return nn.ConvTranspose2d(before, after, 5, stride, padding=2, output_padding=stride - 1, bias=False)


class Discriminator(nn.Sequential):
    """Images (batch, 1, side, side) to logits (batch, 1)."""

    def __init__(self, side, filters, dropout):
        super().__init__(
            nn.Conv2d(1, filters, 5, 2, padding=2), nn.LeakyReLU(SLOPE), nn.Dropout(dropout),
            nn.Conv2d(filters, 2 * filters, 5, 2, padding=2), nn.LeakyReLU(SLOPE), nn.Dropout(dropout),
            nn.Flatten(), nn.Linear(2 * filters * (side // 4) ** 2, 1),
        )  # fmt: skip


class DCGAN(nn.Module):
    """Both networks, and the update of PyTorch's own DCGAN tutorial: the discriminator's, then the generator's.

    Args:
        side, noise, filters, dropout: Sizes.
        formulation: "separate" (the tutorial's) or "shared": both gradients from one forward pass, as ours.
    """

    def __init__(self, side, noise, filters, dropout, formulation="separate", **_):
        super().__init__()
        self.noise, self.formulation = noise, formulation
        self.generator, self.discriminator = Generator(side, noise, filters), Discriminator(side, filters, dropout)

    def optimizers(self) -> list:
        """The generator's and the discriminator's fused Adam."""
        return [torch.optim.Adam(part.parameters(), 1e-4, fused=True) for part in (self.generator, self.discriminator)]

    def losses(self, images, noise) -> tuple:
        """The generator's and the discriminator's, from one forward pass."""
        fake = self.discriminator(self.generator(noise))
        return _bce(fake, 1.0), _bce(self.discriminator(images), 1.0) + _bce(fake, 0.0)

    def step(self, batch, optimizers, backward) -> None:
        """One update of both."""
        images = batch["image"].permute(0, 3, 1, 2)
        noise = torch.randn(len(images), self.noise)
        update = self._shared if self.formulation == "shared" else self._separate
        update(images, noise, optimizers, backward)

    def _separate(self, images, noise, optimizers, backward):
        of_generator, of_discriminator = optimizers
        made = self.generator(noise)
        of_discriminator.zero_grad(set_to_none=True)
        backward(_bce(self.discriminator(images), 1.0) + _bce(self.discriminator(made.detach()), 0.0))
        of_discriminator.step()
        of_generator.zero_grad(set_to_none=True)
        backward(_bce(self.discriminator(made), 1.0))
        of_generator.step()

    def _shared(self, images, noise, optimizers, backward):
        losses = self.losses(images, noise)
        parts = [list(part.parameters()) for part in (self.generator, self.discriminator)]
        found = [torch.autograd.grad(loss, part, retain_graph=True) for loss, part in zip(losses, parts, strict=True)]
        for part, gradients, optimizer in zip(parts, found, optimizers, strict=True):
            for parameter, gradient in zip(part, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()


def _bce(logits, label):
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
