"""The page of translation: translate a sentence, and see what each word looked at."""

from typing import TYPE_CHECKING

import lightkeras as lk

if TYPE_CHECKING:
    from tasks.translation.task import Translation

PIECE = "\u2581"  # SentencePiece's mark of a word's beginning
END = "</s>"
FREQUENT, LETTERS, WORDS = 300, 4, 15  # of the words that are named: ids among which they are, letters, about how many


def page(task: "Translation") -> lk.demo.Page:
    """Returns the page of a trained task."""

    def translate(sentence: str, beam_size: int) -> str:
        if not sentence.strip():
            raise lk.utils.ArgumentError("Expected “Sentence” to have words. Received: none")
        ((best,),) = task.search([sentence], beam_size)
        labels = [[_readable(label) for label in labels] for labels in (best.source_labels, best.labels)]
        return lk.demo.attention(*labels, best.attention, best.text or "(an empty translation)")

    fields = {
        "sentence": lk.demo.Text("Sentence", most=1000),
        "beam_size": lk.demo.Slider("Beams: prefixes that the search keeps", 5, 1, 10),
    }
    about = (
        f"The network knows {len(task.data.source_vocabulary):,} words or parts of words of the language it reads, "
        f"and {len(task.data.target_vocabulary):,} of the other. It reads a word that it does not know as <unk>. "
        f"Some that it knows: {', '.join(_some_words(task))}."
    )
    note = "Then point at a word, or reach it with the tab key: it lights the words that it looked at."
    tool = lk.demo.Tool("Translate a sentence", fields, translate, button="Translate", note=note)
    return lk.demo.Page("Translation", about, [tool])


def _some_words(task: "Translation") -> list[str]:
    """Frequent words of the source language, of some length, a few of all."""
    vocabulary = task.data.source_vocabulary
    labels = vocabulary.labels(range(lk.text.FIRST_WORD, min(FREQUENT, len(vocabulary))))
    words = [word for word in map(_readable, labels) if len(word) >= LETTERS and word.isalpha()]
    return words[:: max(1, len(words) // WORDS)]


def _readable(label: str) -> str:
    """A label without the marks of a vocabulary."""
    return "(end)" if label == END else label.replace(lk.text.JOIN, "").replace(PIECE, "") or "(space)"
