"""Whom and what the offline model recognises in *A Christmas Carol*, and who stands near whom."""

import re
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True)
class Entity:
    """Someone or something of the book.

    Attributes:
        name: The name it carries in the graph.
        kind: One of the entity types that nano-graphrag asks for.
        pattern: What the book calls it.
    """

    name: str
    kind: str
    pattern: re.Pattern[str]


@dataclass(frozen=True)
class Mention:
    """An entity and the first sentence of a text that speaks of it."""

    entity: Entity
    sentence: str


@dataclass(frozen=True)
class Relation:
    """Two entities that one paragraph names near each other.

    Attributes:
        source: The entity that comes first in ``CAST``.
        target: The other one.
        sentence: The first sentence that names both, or else one of them.
        strength: 1 to 10, more the nearer the two stand.
    """

    source: Entity
    target: Entity
    sentence: str
    strength: float


def _entity(name: str, kind: str, pattern: str) -> Entity:
    return Entity(name, kind, re.compile(pattern))


CAST = (
    _entity("EBENEZER SCROOGE", "person", r"\bScrooge\b(?! and Marley)"),
    _entity("JACOB MARLEY", "person", r"(?<!Scrooge and )\bMarley\b"),
    _entity("BOB CRATCHIT", "person", r"\bBob\b|\b(his|the) clerk\b"),
    _entity("MRS. CRATCHIT", "person", r"\bMrs\. Cratchit\b"),
    _entity("TINY TIM", "person", r"\bTim\b"),
    _entity("PETER CRATCHIT", "person", r"\bPeter\b"),
    _entity("MARTHA CRATCHIT", "person", r"\bMartha\b"),
    _entity("BELINDA CRATCHIT", "person", r"\bBelinda\b"),
    _entity("FRED", "person", r"\bFred\b|\bnephew\b"),
    _entity("FRED'S WIFE", "person", r"\bniece\b"),
    _entity("TOPPER", "person", r"\bTopper\b"),
    _entity("FAN", "person", r"\bFan\b"),
    _entity("BELLE", "person", r"\bBelle\b"),
    _entity("MR. FEZZIWIG", "person", r"(?<!Mrs\. )\bFezziwig\b"),
    _entity("MRS. FEZZIWIG", "person", r"\bMrs\. Fezziwig\b"),
    _entity("DICK WILKINS", "person", r"\bDick\b"),
    _entity("OLD JOE", "person", r"\bJoe\b"),
    _entity("MRS. DILBER", "person", r"\bMrs\. Dilber\b"),
    _entity("CAROLINE", "person", r"\bCaroline\b"),
    _entity("MARLEY'S GHOST", "person", r"\bMarley's Ghost\b|\bJacob Marley's\b"),
    _entity("GHOST OF CHRISTMAS PAST", "person", r"\bGhost of Christmas Past\b"),
    _entity("GHOST OF CHRISTMAS PRESENT", "person", r"\bGhost of Christmas Present\b"),
    _entity("GHOST OF CHRISTMAS YET TO COME", "person", r"\bChristmas Yet to Come\b|\bPhantom\b"),
    _entity("THE SPIRIT", "person", r"\b[Tt]he (Ghost|Spirit)\b(?! of)"),
    _entity("IGNORANCE AND WANT", "person", r"\bIgnorance\b"),
    _entity("SCROOGE AND MARLEY", "organization", r"\bScrooge and Marley\b"),
    _entity("THE COUNTING-HOUSE", "geo", r"\bcounting-house\b"),
    _entity("THE CITY OF LONDON", "geo", r"\bLondon\b|\bthe City\b|\bCity of London\b"),
    _entity("CORNHILL", "geo", r"\bCornhill\b"),
    _entity("CAMDEN TOWN", "geo", r"\bCamden Town\b"),
    _entity("THE EXCHANGE", "geo", r"'Change\b|\bExchange\b"),
    _entity("CHRISTMAS EVE", "event", r"\bChristmas Eve\b"),
    _entity("CHRISTMAS DAY", "event", r"\bChristmas Day\b"),
    _entity("THE FUNERAL", "event", r"\bfuneral\b"),
    _entity("THE CRATCHITS' DINNER", "event", r"\bgoose\b"),
)

_NEAR = 200  # letters; a list of characters names them all in one paragraph and relates few of them

_SENTENCE_END = re.compile(r"(?<!\bMr\.)(?<!\bMrs\.)(?<!\bSt\.)(?<=[.!?'])\s+(?=[\"'(A-Z])")


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, each on one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def sentences(paragraph: str) -> list[str]:
    """The sentences of a one-line paragraph."""
    return _SENTENCE_END.split(paragraph)


def mentions(text: str) -> list[Mention]:
    """Each entity of the cast that a text speaks of, once, in the order of ``CAST``."""
    spoken = [sentence for paragraph in paragraphs(text) for sentence in sentences(paragraph)]
    return [
        Mention(entity, first)
        for entity in CAST
        if (first := next(filter(entity.pattern.search, spoken), None)) is not None
    ]


def relations(text: str) -> list[Relation]:
    """Each pair of entities that a paragraph of a text names near each other."""
    return [
        _relation(source, target, paragraph, letters)
        for paragraph in paragraphs(text)
        for source, target in combinations(
            [entity for entity in CAST if entity.pattern.search(paragraph)], 2
        )
        if (letters := _letters_between(source, target, paragraph)) <= _NEAR
    ]


def _letters_between(source: Entity, target: Entity, paragraph: str) -> int:
    here, there = (
        [found.start() for found in entity.pattern.finditer(paragraph)]
        for entity in (source, target)
    )
    return min(abs(one - other) for one in here for other in there)


def _relation(source: Entity, target: Entity, paragraph: str, letters: int) -> Relation:
    def names_how_many(sentence: str) -> int:
        return sum(bool(entity.pattern.search(sentence)) for entity in (source, target))

    sentence = max(sentences(paragraph), key=names_how_many)
    return Relation(source, target, sentence, strength=round(10 - 9 * letters / _NEAR, 2))
