"""Ways to clean a text before it is cut into tokens."""

import re
import unicodedata

import lightkeras as lk


def clean_as_tutorial(text: str) -> str:
    """Cleans a text like the TensorFlow tutorial "Neural machine translation with attention".

    Keeps a to z, space and .?!,¿ of the text in compatible decomposition (NFKD) and lower case: no accents, digits,
    apostrophes or quotation marks. (The tutorial puts spaces around signs; here `lk.text.tokenize` cuts them off.)
    """
    return lk.text.normalize_text(re.sub("[^ a-z.?!,¿]", "", unicodedata.normalize("NFKD", text).lower()))


CLEANING = {"none": lk.text.normalize_text, "tutorial": clean_as_tutorial}
