"""What a report shows of translation: good and bad sentences, quality by length, attention."""

import io
from typing import TYPE_CHECKING, NamedTuple

import lightkeras as lk
from tasks.translation import figures

if TYPE_CHECKING:
    from tasks.translation.task import Translation

KEPT = 500  # sentences of an evaluation
SHOWN = 8  # good ones, and bad ones
DRAWN = 3  # attention maps
LENGTHS = (1, 5, 9, 13, 21)  # words of the source: the lower ends of the classes


class Scored(NamedTuple):
    """A sentence of the last evaluation: plain texts."""

    source: str
    translation: str
    references: list[str]

    @property
    def chrf(self) -> float:
        """chrF of this sentence alone, 0 to 100."""
        return lk.metrics.ChrF.from_sentences([self.translation], [self.references]).result()


def sections(task: "Translation") -> list[lk.report.Section]:
    """Returns tables of the last evaluation's greedy translations, and maps of the attention (5 beams)."""
    scored = task.scored
    found = [lk.report.Section("Attention", list(_maps(task)), "Rows: words of the translation; columns: the source.")]
    if scored:
        ranked = sorted(scored, key=lambda one: -one.chrf)
        good, bad = ranked[:SHOWN], ranked[::-1][:SHOWN]
        note = f"Greedy translations of the first {len(scored)} validation sentences; chrF of single sentences."
        blocks = [_table(good, "The best"), _table(bad, "The worst"), _by_length(task, scored)]
        found.insert(0, lk.report.Section("Translations", blocks, note))
    return found


def _table(sentences: list[Scored], title: str) -> lk.report.Table:
    rows = [[one.source, one.translation, one.references[0], round(one.chrf, 1)] for one in sentences]
    return lk.report.Table(["source", "translation", "reference", "chrF"], rows, title)


def _by_length(task: "Translation", scored: list[Scored]) -> lk.report.Table:
    rows = []
    for low, high in zip(LENGTHS, [*LENGTHS[1:], 10**9], strict=True):
        part = [one for one in scored if low <= len(one.source.split()) < high]
        if part:
            texts, references = [one.translation for one in part], [one.references for one in part]
            values = [kind.from_sentences(texts, references).result() for kind in (task.data.bleu, lk.metrics.ChrF)]
            words = f"{low} to {high - 1}" if high < 10**9 else f"{low} and more"
            rows.append([words, len(part), *(round(value, 1) for value in values)])
    return lk.report.Table(["words of the source", "sentences", "BLEU", "chrF"], rows, "By length")


def _maps(task: "Translation"):
    for source in task.data.sources("validation")[:DRAWN]:
        ((best,),) = task.search([source])
        file = io.BytesIO()
        figures.write_attention(file, best.source_labels, best.labels, best.attention)
        yield lk.report.Picture(file.getvalue(), f"Attention of the translation of: {source}", best.text or source)
