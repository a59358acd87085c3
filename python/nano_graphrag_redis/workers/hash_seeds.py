"""Hash seeds: the host orders ties by string hash, so each seed makes different prompts."""

from __future__ import annotations

import os
import sys

from nano_graphrag_redis.config.warn_once import warn_once


def hashes_are_random() -> bool:
    """Whether this process hashes strings with a random seed."""
    # Of 0 alone the flag tells that it was in force when the process started.
    if not sys.flags.hash_randomization:
        return False
    said = "" if sys.flags.ignore_environment else os.environ.get("PYTHONHASHSEED", "")
    return said in {"", "random", "0"}


def warn_of_random_hashes() -> None:
    """Warns once, in a process that shares answers with others, if those build other prompts."""
    if hashes_are_random():
        warn_once(
            "the LLM cache is shared, and the hash seed of this process is random: nano-graphrag "
            "orders ties by string hashes, so other workers make other prompts of the same "
            "question and pay for it again; start all of them with PYTHONHASHSEED=0"
        )
