"""Tokens of English captions, as in the COCO caption evaluation."""

import re

from nltk.tokenize.treebank import TreebankWordTokenizer

_TREEBANK = TreebankWordTokenizer()
_TYPOGRAPHY = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": " ", "—": " ", "…": " "})
_PUNCTUATION = frozenset(
    ["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)  # dropped by the COCO evaluation
# kept by the COCO evaluation, which looks for them in capitals only
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_ABBREVIATIONS = frozenset({
    "ave.", "blvd.", "co.", "corp.", "dr.", "etc.", "ft.", "inc.", "jr.", "ltd.", "mr.", "mrs.", "ms.", "mt.", "ph.d.",
    "rd.", "sr.", "st.", "vs.",
})  # fmt: skip
_INITIALS = re.compile(r"(?:[a-z]\.)+")  # u.s., p.m., and a single letter within a sentence
_LAST_PERIODS = re.compile(r"(\S+?)\.+(?=[\"')\]}]*(?:\s|$))")
_PLAIN = re.compile(r"(?!.*\b(?:cannot|gimme|gonna|gotta|lemme|wanna)\b)[a-z0-9 ]*")  # split at its spaces alone
_CLITIC = re.compile(r"'(?:s|d|m|t|n|re|ve|ll|n'|\d\ds?)$")


def tokenize_caption(text: str) -> str:
    """Splits a caption into tokens, lowercased and without punctuation, joined by single spaces.

    The result is that of the COCO evaluation's `PTBTokenizer` (Stanford's, in Java, lowercased, then without
    `. , : ; ? !`, quotes and dashes): "A man's dog doesn't sit." gives "a man 's dog does n't sit". Both agree on all
    5,000 captions of the first 1,000 images of Flickr8k and on all but 7 of the 25,014 of COCO val2017. They differ in
    rare cases: Stanford's knows more abbreviations, splits "5pm", keeps web addresses, "#tag" and "?!?" whole, and lets
    the next word (or line) decide whether a single letter keeps its period.
    """
    text = text.lower().translate(_TYPOGRAPHY)
    text = _LAST_PERIODS.sub(_without_periods, text)
    if _PLAIN.fullmatch(text):  # most captions; the tokenizer takes ten times as long
        return " ".join(text.split())
    words = _TREEBANK.tokenize(f"{text} .")  # it would split the period off a last abbreviation
    words = [word if word in _BRACKETS else _bare(word) for word in words]
    return " ".join(_BRACKETS.get(word, word) for word in words if word and word not in _PUNCTUATION)


def _without_periods(match: re.Match) -> str:
    once = f"{match[1]}."
    last_letter = len(once) == 2 and match.end() == len(match.string.rstrip())
    return once if once in _ABBREVIATIONS or (_INITIALS.fullmatch(once) and not last_letter) else match[1]


def _bare(word: str) -> str:
    """Strips quotes, periods and dashes that do not belong to the word from its start, and dashes from its end."""
    return word if _CLITIC.match(word) else re.sub(r"^(?:'+|[.-]+(?!\d))(?=\w)|(?<=\w)-+$", "", word)
