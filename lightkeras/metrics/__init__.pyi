"""The public names with their homes, for editors and type checkers; `__init__.py` imports them when first used."""

from .bleu import BLEU as BLEU
from .bleu import tokenize_13a as tokenize_13a
from .caption_tokens import tokenize_caption as tokenize_caption
from .captions import ROUGEL as ROUGEL
from .captions import CaptionBLEU as CaptionBLEU
from .captions import CIDErD as CIDErD
from .captions import DocumentFrequencies as DocumentFrequencies
from .chrf import ChrF as ChrF
from .diagnostics import attention_coverage as attention_coverage
from .diagnostics import attention_entropy as attention_entropy
from .diagnostics import distinct_share as distinct_share
from .diagnostics import empty_share as empty_share
from .diagnostics import is_repeating as is_repeating
from .diagnostics import repeating_share as repeating_share
from .gan import Labelled as Labelled
from .gan import classifier_score as classifier_score
from .gan import evaluate_gan as evaluate_gan
from .gan import frechet_distance as frechet_distance
from .pixels import PixelFrechetDistance as PixelFrechetDistance
from .statistics import CorpusMetric as CorpusMetric
from .sums import BitsPerCharacter as BitsPerCharacter
from .sums import Perplexity as Perplexity
from .sums import WeightedMean as WeightedMean
