"""The public names with their homes, for editors and type checkers; `__init__.py` imports them when first used."""

from lightkeras.metrics.bleu import BLEU as BLEU
from lightkeras.metrics.bleu import tokenize_13a as tokenize_13a
from lightkeras.metrics.caption_tokens import tokenize_caption as tokenize_caption
from lightkeras.metrics.captions import ROUGEL as ROUGEL
from lightkeras.metrics.captions import CaptionBLEU as CaptionBLEU
from lightkeras.metrics.captions import CIDErD as CIDErD
from lightkeras.metrics.captions import DocumentFrequencies as DocumentFrequencies
from lightkeras.metrics.chrf import ChrF as ChrF
from lightkeras.metrics.diagnostics import attention_coverage as attention_coverage
from lightkeras.metrics.diagnostics import attention_entropy as attention_entropy
from lightkeras.metrics.diagnostics import distinct_share as distinct_share
from lightkeras.metrics.diagnostics import empty_share as empty_share
from lightkeras.metrics.diagnostics import is_repeating as is_repeating
from lightkeras.metrics.diagnostics import repeating_share as repeating_share
from lightkeras.metrics.frechet import frechet_distance as frechet_distance
from lightkeras.metrics.gan_evaluation import classifier_score as classifier_score
from lightkeras.metrics.gan_evaluation import evaluate_gan as evaluate_gan
from lightkeras.metrics.image_classifier import LabelledImages as LabelledImages
from lightkeras.metrics.pixels import PixelFrechetDistance as PixelFrechetDistance
from lightkeras.metrics.statistics import CorpusMetric as CorpusMetric
from lightkeras.metrics.sums import BitsPerCharacter as BitsPerCharacter
from lightkeras.metrics.sums import Perplexity as Perplexity
from lightkeras.metrics.sums import WeightedMean as WeightedMean
