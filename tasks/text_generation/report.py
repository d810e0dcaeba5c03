"""What a report shows of text generation: the same beginning at several temperatures."""

from typing import TYPE_CHECKING

import lightkeras as lk

if TYPE_CHECKING:
    from tasks.text_generation.task import TextGeneration

TEMPERATURES = (0.5, 0.8, 1.0)
LENGTH = 300  # characters


def sections(task: "TextGeneration") -> list[lk.report.Section]:
    """Writes a text at each temperature, from the same seed."""
    texts = [
        lk.report.Text(task.generate(task.first_prompt, LENGTH, temperature)[0], f"Temperature {temperature}")
        for temperature in TEMPERATURES
    ]
    note = "Below 1, probable characters are preferred: fewer errors, and more repetition."
    return [lk.report.Section("Temperatures", texts, note)]
