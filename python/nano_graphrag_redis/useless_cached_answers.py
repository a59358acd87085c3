"""Cached LLM answers as the host stores them, and which of them are useless."""

from __future__ import annotations

import json
import re
from typing import Any

_BEGINS_AN_OBJECT = re.compile(r"\s*(?:```(?:json)?\s*)?\{")


def model_of(value: Any) -> str | None:
    """The model that gave the answer; None if the host did not record it."""
    model = value.get("model") if isinstance(value, dict) else None
    return model if isinstance(model, str) else None


def is_empty(value: Any) -> bool:
    """Whether it is null or blank: it was paid for, and the host continues without an answer.

    An object without the member of the answer is something else: a vector, a document.
    """
    if isinstance(value, dict) and "return" not in value:
        return False
    answer = _answer(value)
    return answer is None or (isinstance(answer, str) and not answer.strip())


def is_unparseable(value: Any) -> bool:
    """Whether it begins a JSON object that the host cannot parse, as where it was cut off.

    The host asks for community reports in JSON and raises on such an answer, again at each insert
    for as long as it is cached.
    """
    answer = _answer(value)
    if not isinstance(answer, str) or not _BEGINS_AN_OBJECT.match(answer):
        return False
    # What nano-graphrag takes for the JSON (``locate_json_string_body_from_string``), found without
    # its pattern, which begins anew at each brace while there is no end.
    found = answer[answer.find("{") : answer.rfind("}") + 1]
    try:
        json.loads(found)
    except (ValueError, RecursionError):
        return True
    return False


def _answer(value: Any) -> Any:
    return value.get("return") if isinstance(value, dict) else value
