"""A pretended language model that has read one book: what it replies to nano-graphrag's prompts.

Every reply is made of what the prompt holds, the same whenever asked: a reader of the demo sees
passages of the book, never invented text.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from string import capwords

from .cast import Mention, Relation, mentions, paragraphs, relations, sentences
from .embedding import content_words

_FIELD, _RECORD, _END = "<|>", "##", "<|COMPLETE|>"
_QUOTES_PER_ANSWER = 3
_QUOTE_LETTERS = 60  # a shorter sentence tells little without its neighbours
_FINDINGS_PER_REPORT = 5
_SUMMARY_LETTERS = 1200  # about 300 tokens; the host asks for at most 500


class UnknownPromptError(ValueError):
    """A prompt that none of the tasks below recognises."""


@dataclass(frozen=True)
class Task:
    """One kind of prompt.

    Attributes:
        name: What it is counted as.
        marker: Words that only this kind of prompt holds.
        answer: Makes the reply of the prompt and the user's question.
    """

    name: str
    marker: str
    answer: Callable[[str, str], str]


def task_of(prompt: str) -> Task:
    """The task a prompt sets.

    Args:
        prompt: The system message, if any, and the last user message.

    Raises:
        UnknownPromptError: No task recognises the prompt.
    """
    for task in TASKS:
        if task.marker in prompt:
            return task
    raise UnknownPromptError(f"The offline model does not know this prompt: {prompt[:120]!r}")


def _extract(prompt: str, _question: str) -> str:
    text = prompt.rpartition("\nText: ")[2].rpartition("\n######################\nOutput:")[0]
    records = [_entity_record(mention) for mention in mentions(text)]
    records += [_relation_record(relation) for relation in relations(text)]
    return f"\n{_RECORD}\n".join(records) + _END


def _entity_record(mention: Mention) -> str:
    return _record("entity", mention.entity.name, mention.entity.kind, mention.sentence)


def _relation_record(relation: Relation) -> str:
    source, target = relation.source.name, relation.target.name
    return _record("relationship", source, target, relation.sentence, relation.strength)


def _record(*fields: str | float) -> str:
    return f"({_FIELD.join(json.dumps(field, ensure_ascii=False) for field in fields)})"


def _nothing_missed(_prompt: str, _question: str) -> str:
    return _END


def _no(_prompt: str, _question: str) -> str:
    return "NO"


def _summarise(prompt: str, _question: str) -> str:
    descriptions = prompt.rpartition("\nDescription List: ")[2].rpartition("\n#######\nOutput:")[0]
    return descriptions.strip("[]")[:_SUMMARY_LETTERS]


def _report(prompt: str, _question: str) -> str:
    data = prompt.rpartition("\n# Real Data\n")[2]
    entities = _rows(data, "Entities")
    relationships = _rows(data, "Relationships")
    names = [capwords(row[1]) for row in entities]
    report = {
        "title": ", ".join(names[:3]),
        "summary": f"{len(names)} entities and {len(relationships)} relations around {names[0]}.",
        "rating": min(10.0, len(relationships) / 2),
        "rating_explanation": f"{len(relationships)} relations hold this community together.",
        "findings": [
            {"summary": f"{capwords(source)} and {capwords(target)}", "explanation": description}
            for _, source, target, description, *_ in relationships[:_FINDINGS_PER_REPORT]
        ],
    }
    return json.dumps(report, ensure_ascii=False)


def _rows(data: str, section: str) -> list[list[str]]:
    """The rows of one of the tables a community is described by, without the heading."""
    table = data.partition(f"-----{section}-----\n```csv\n")[2].partition("\n```")[0]
    return [[cell.strip('"') for cell in line.split(",\t")] for line in table.splitlines()[1:]]


def _local_answer(prompt: str, question: str) -> str:
    reports = len(_report_heads(prompt))
    book = prompt.partition("-----Sources-----")[2].partition("\n---Goal---")[0]
    return f"From {reports} community reports and their passages:\n\n{_quotes(book, question)}"


def _naive_answer(prompt: str, question: str) -> str:
    book = prompt.partition("Below are the knowledge you know:")[2].partition("\n---\nIf you")[0]
    return f"From the passages nearest to the question:\n\n{_quotes(book, question)}"


def _quotes(text: str, question: str) -> str:
    """The sentences of a text that share most words with the question, best first."""
    found = dict.fromkeys(
        sentence.strip('" ')
        for paragraph in paragraphs(text)
        for sentence in sentences(paragraph)
        if len(sentence) >= _QUOTE_LETTERS
    )
    best = sorted(found, key=lambda sentence: -_shared(sentence, question))
    return "\n\n".join(f"> {sentence}" for sentence in best[:_QUOTES_PER_ANSWER])


def _shared(text: str, question: str) -> int:
    return len(set(content_words(text)) & set(content_words(question)))


def _points(prompt: str, question: str) -> str:
    points = [
        {
            "description": f"{title}. {summary}",
            "score": min(100, 30 * _shared(title, question) + _shared(findings, question)),
        }
        for title, summary, findings in _report_heads(prompt)
    ]
    return json.dumps({"points": points}, ensure_ascii=False)


def _report_heads(prompt: str) -> list[tuple[str, str, str]]:
    """Title, summary and the rest of each community report that a prompt quotes."""
    parts = re.split(r'^\d+,\t"# ', prompt, flags=re.MULTILINE)[1:]
    heads = (part.split("\n\n", 2) for part in parts)
    return [(title, summary, "".join(rest)) for title, summary, *rest in heads]


def _global_answer(prompt: str, _question: str) -> str:
    ranked = re.findall(r"^Importance Score: (\d+)\n(.+)$", prompt, flags=re.MULTILINE)
    best = [f"> {text} (importance {score})" for score, text in ranked[:_QUOTES_PER_ANSWER]]
    return "\n\n".join([f"From {len(ranked)} community reports, the weightiest first:", *best])


TASKS = (
    Task("extraction", "-Goal-\nGiven a text document", _extract),
    Task("gleaning", "MANY entities were missed", _nothing_missed),
    Task("gleaning", "It appears some entities", _no),
    Task("summary", "generating a comprehensive summary", _summarise),
    Task("report", "\n# Report Structure\n", _report),
    Task("local answer", "\n-----Sources-----\n", _local_answer),
    Task("global points", '"points": [', _points),
    Task("global answer", "\n---Analyst Reports---\n", _global_answer),
    Task("naive answer", "Below are the knowledge you know:", _naive_answer),
)
