"""`python -m benchmarks.tutorial_translation_quality`: BLEU of the TensorFlow tutorial's recipe after a budget of time.

The time is the processor's, over all cores: it is the same beside other work.

Its architecture, its cleaning (lower case, no accents), its words, its optimizer and batch size, on the split of
`tasks.translation` and scored by the same code. In its favour: batches are grouped by length, where the tutorial pads
every sentence to the longest one, and pairs of more than 20 words, which would take most of its time, are left out of
training. Its output is lower case, so it is scored without regard to case.
"""

import argparse
import json
import time

import keras
import numpy as np

import lightkeras as lk
from benchmarks.peers.tutorials import translation as tutorial_translation
from lightkeras.utils.paths import local_path
from tasks.translation import TranslationData

BATCH, LONGEST, REPORT = 64, 20, 100


def train(data: TranslationData, minutes: float) -> tuple[tutorial_translation.Tutorial, dict]:
    """The tutorial's model after so many minutes of processor time, tracing included, and how far it came."""
    vocabularies = len(data.source_vocabulary), len(data.target_vocabulary)
    model = tutorial_translation.build(*vocabularies, BATCH)
    dataset = data.train_dataset()
    began, loss, updates = time.process_time(), 0.0, 0
    for batch in dataset.stream(seed=0):
        loss = tutorial_translation.train_step(model, batch["source"], batch["target"])
        updates += 1
        spent = (time.process_time() - began) / 60
        if updates % REPORT == 0:
            print(
                f"{spent:.1f} processor minutes, {updates / len(dataset):.2f} epochs, loss {float(loss):.3f}",
                flush=True,
            )
        if spent >= minutes:
            break
    parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    return model, {
        "processor_minutes": spent,
        "updates": updates,
        "epochs": updates / len(dataset),
        "parameters": parameters,
    }


def translate(model: tutorial_translation.Tutorial, data: TranslationData, texts: list[str]) -> list[str]:
    """The tutorial's translations, one sentence after the other."""
    made = []
    for text in texts:
        source = data.encode(text)
        made.append(data.decode(tutorial_translation.translate(model, source, 2 * len(source) + 10)[0]))
    return made


def scores(translations: list[str], references: list[list[str]]) -> dict:
    """BLEU and chrF without regard to case."""
    bleu = lk.metrics.BLEU.from_sentences(translations, references, lowercase=True)
    chrf = lk.metrics.ChrF.from_sentences(translations, references, lowercase=True)
    return {"bleu": bleu.result(), "bleu_signature": bleu.signature, "chrf": chrf.result()}


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tutorial_translation_quality", description=__doc__)
    parser.add_argument("--minutes", type=float, required=True, help="processor time of training")
    parser.add_argument("--source", default="download", help="as of the translation task's data")
    parser.add_argument("--limit", type=int, help="test sentences; all of them by default")
    parser.add_argument("--out", type=local_path, required=True, help="a new JSON file")
    options = parser.parse_args(arguments)
    out = lk.utils.new_file("out", options.out)
    keras.utils.set_random_seed(0)
    cleaned = TranslationData(options.source, cleaning="tutorial", min_count=1, max_length=LONGEST, batch_size=BATCH)
    plain = TranslationData(options.source)
    for data in (cleaned, plain):
        data.prepare_data()
        data.setup("fit")
    model, report = train(cleaned, options.minutes)
    sources, references = (of("test")[: options.limit] for of in (plain.sources, plain.references))
    translations = translate(model, cleaned, sources)
    of_cleaned = [[cleaned.clean(text) for text in of_source] for of_source in references]
    report["on the references as they are"] = scores(translations, references)
    report["on references cleaned like its output"] = scores(translations, of_cleaned)
    report["examples"] = [list(example) for example in zip(sources, translations, references, strict=True)][:20]
    print(json.dumps(report, indent=2, ensure_ascii=False))
    out.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
