"""What the benchmark stores: a real book, cut into the shapes nano-graphrag writes.

Everything is deterministic, so two runs store the same bytes.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

Value = dict[str, Any]
Table = dict[str, Value]

BOOK = Path(__file__).parents[1] / "examples" / "demo" / "a-christmas-carol.txt"
CHUNKS, REPORTS, ANSWERS = 1_000, 300, 1_000

# The book is plain ASCII, which flatters every decoder: a Python string is one, two or four bytes
# a character wide, and real documents fill all of these. A passage takes its words from one row.
FOREIGN_WORDS = (
    ("naïve", "café", "Überraschung", "garçon", "señor", "Ångström"),
    ("“Humbug!”", "Привет", "Рождество", "λόγος", "Łódź", "…"),
    ("北京", "圣诞颂歌", "こんにちは", "크리스마스", "שלום", "नमस्ते"),
    ("🎄", "👻", "🕯️", "“God bless us” 🙏", "🦃", "Θ"),
)
FOREIGN_EVERY = 40  # words

PEOPLE = tuple(
    f'"{name}"'  # the host keeps the quotes its extraction prompt asks for
    for name in (
        "EBENEZER SCROOGE", "JACOB MARLEY", "BOB CRATCHIT", "TINY TIM", "MRS. CRATCHIT", "FRED",
        "FEZZIWIG", "THE GHOST OF CHRISTMAS PAST", "THE GHOST OF CHRISTMAS PRESENT", "BELLE",
        "THE GHOST OF CHRISTMAS YET TO COME", "FAN", "LONDON", "CAMDEN TOWN", "PETER CRATCHIT",
        "MARTHA CRATCHIT", "TOPPER", "OLD JOE", "MRS. DILBER", "THE CITY OF LONDON CORPORATION",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Payloads:
    """One table for each namespace that the workloads touch."""

    text_chunks: Table
    community_reports: Table
    llm_response_cache: Table

    def tables(self) -> dict[str, Table]:
        """The tables by the host's name of their namespace."""
        return dict(vars(self))

    def sizes(self) -> dict[str, int]:
        """Mean bytes of a stored value, by namespace."""
        return {
            namespace: sum(map(stored_size, table.values())) // len(table)
            for namespace, table in self.tables().items()
        }


def build() -> Payloads:
    """Cut the book into chunks, community reports and cached answers."""
    book = Passages(BOOK.read_text(encoding="utf-8"))
    chunks = _chunks(book)
    return Payloads(chunks, _reports(book, list(chunks)), _answers(book))


def copy(table: Table) -> Table:
    """The same values in objects that nobody has seen before."""
    copied: Table = json.loads(json.dumps(table))
    return copied


def stored_size(value: object) -> int:
    """Bytes of `value` as compact UTF-8 JSON."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


class Passages:
    """Passages of the book, each beginning where the last one ended, with foreign words in it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._random = Random(1843)

    def next(self, characters: int) -> str:
        """The next passage of about that many characters."""
        if self._at + characters > len(self._text):
            # An odd start, so that the second time round no passage repeats one of the first.
            self._at = self._random.randrange(characters)
        passage = self._text[self._at : self._at + characters]
        self._at += characters
        words, foreign = passage.split(" "), self._random.choice(FOREIGN_WORDS)
        for position in range(FOREIGN_EVERY // 2, len(words), FOREIGN_EVERY):
            words[position] = self._random.choice(foreign)
        return " ".join(words)

    def sentence(self, characters: int) -> str:
        """A passage on one line."""
        return " ".join(self.next(characters).split())


def _digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _chunks(book: Passages) -> Table:
    document = f"doc-{_digest('a-christmas-carol')}"
    contents = (book.next(4_410) for _ in range(CHUNKS))
    return {
        f"chunk-{_digest(content)}": {
            "tokens": 1_200,
            "content": content,
            "chunk_order_index": order,
            "full_doc_id": document,
        }
        for order, content in enumerate(contents)
    }


def _reports(book: Passages, chunk_ids: list[str]) -> Table:
    return {str(number): _report(number, book, chunk_ids) for number in range(REPORTS)}


def _report(number: int, book: Passages, chunk_ids: list[str]) -> Value:
    random = Random(number)
    findings = [{"summary": book.sentence(70), "explanation": book.sentence(400)} for _ in range(5)]
    title, summary = book.sentence(50), book.sentence(300)
    sections = "\n\n".join(f"## {f['summary']}\n\n{f['explanation']}" for f in findings)
    nodes = sorted(random.sample(PEOPLE, 16))
    return {
        "report_string": f"# {title}\n\n{summary}\n\n{sections}",
        "report_json": {
            "title": title,
            "summary": summary,
            "rating": round(random.uniform(0, 10), 1),
            "rating_explanation": book.sentence(160),
            "findings": findings,
        },
        "level": number % 4,
        "title": f"Cluster {number}",
        "edges": sorted(sorted(random.sample(nodes, 2)) for _ in range(24)),
        "nodes": nodes,
        "chunk_ids": random.sample(chunk_ids, 16),
        "occurrence": random.random(),
        "sub_communities": [str(random.randrange(REPORTS)) for _ in range(number % 5)],
    }


def _answers(book: Passages) -> Table:
    texts = (book.next(1_880) for _ in range(ANSWERS))
    return {_digest(text): {"return": text, "model": "gpt-4o"} for text in texts}
