"""A small grammar that writes English sentences with their Spanish translations, and links words that belong together.

Articles and adjectives agree with their noun in gender and number, adjectives change sides ("a red house", "una casa
roja"), and some words have two counterparts or none ("does not" and "no", "likes" and "le gusta").
"""

from tasks.translation.grammar.writer import Sentence, pairs, sentences

__all__ = ["Sentence", "pairs", "sentences"]
