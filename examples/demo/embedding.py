"""Vectors of the offline run: a hashed bag of words, so that texts which share words are near."""

import re
from collections import Counter
from math import sqrt
from zlib import crc32

WIDTH = 1536  # what nano-graphrag expects of text-embedding-3-small

# The cosine of two texts that share no word: to a real model any two English texts are a little
# alike. nano-graphrag drops what is less alike to the question than 0.2: a passage that shares a
# word with it stays, one that shares none goes.
_ALIKE = 0.15

_SMALL_WORDS = """
a about after again all am an and any are as at be been before but by can could did do does
for from had has have he her him his how i if in into is it its me mr mrs my no not of off
on or our out over said she should so some such than that the their them then there these
they this those to under up upon us very was we were what when where which who whom why will
with would you your
"""
_STOP_WORDS = frozenset(_SMALL_WORDS.split())


def content_words(text: str) -> list[str]:
    """The words of a text that carry its meaning, in lower case, without a possessive s."""
    words = re.findall(r"[a-z]+(?:-[a-z]+)*", re.sub(r"'s\b", "", text.lower()))
    return [word for word in words if word not in _STOP_WORDS]


def embed(text: str) -> list[float]:
    """The unit vector of a text: its first axis is the same for all, the others are its words."""
    vector = [0.0] * WIDTH
    for word, count in Counter(content_words(text)).items():
        vector[1 + crc32(word.encode()) % (WIDTH - 1)] += sqrt(count)
    length = sqrt(sum(number * number for number in vector)) or 1.0
    vector = [sqrt(1 - _ALIKE) * number / length for number in vector]
    vector[0] = sqrt(_ALIKE)
    return vector
