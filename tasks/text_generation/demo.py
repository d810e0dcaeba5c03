"""The page of text generation: write a beginning, and read on."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import lightkeras as lk

if TYPE_CHECKING:
    from tasks.text_generation.task import TextGeneration

BEGINNING = "The "


def page(task: "TextGeneration") -> lk.demo.Page:
    """Returns the page of a trained task."""

    def write(prompt: str, length: int, temperature: float, top_p: float, seed: int) -> Iterator[str]:
        for whole in task.generate_parts(prompt, length, temperature, top_p=top_p if top_p < 1 else None, seed=seed):
            yield lk.demo.text(prompt, whole[len(prompt) :])

    known = set(task.vocabulary.tokens)
    fields = {
        "prompt": lk.demo.Text("Beginning", BEGINNING if set(BEGINNING) <= known else task.first_prompt, lines=3),
        "length": lk.demo.Slider("Characters", 500, 50, 2000, 50),
        "temperature": lk.demo.Slider("Temperature: low prefers probable characters", 0.8, 0.0, 2.0, 0.05),
        "top_p": lk.demo.Slider("Top p: share of the probability that is drawn from", 1.0, 0.05, 1.0, 0.05),
        "seed": lk.demo.Number("Seed: the same one writes the same text"),
    }
    about = (
        f"A recurrent network writes one character after the other. It knows {len(known)} characters, and nothing "
        "but the text that it was trained on."
    )
    return lk.demo.Page("Text generation", about, [lk.demo.Tool("Read on", fields, write, button="Write")])
