"""The environment of the host's processes: off the network, in the same words each time."""

from importlib.util import find_spec
from pathlib import Path


def same_words() -> dict[str, str]:
    """What makes two processes of the host send equal prompts.

    Where the host orders by rank and two are equal, the order is that of a set of strings, and so
    of Python's string hashes, which differ from process to process unless told otherwise. A prompt
    in another order is another entry of the LLM cache, and another call to pay.
    """
    return {"PYTHONHASHSEED": "0"}


def without_network(base_url: str, key: str = "none-needed") -> dict[str, str]:
    """What keeps the host off every network but the loopback.

    Args:
        base_url: Of an OpenAI-compatible server.
        key: What the OpenAI client shows that server.
    """
    return {
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": key,
        "NO_PROXY": "127.0.0.1",
        "TIKTOKEN_CACHE_DIR": str(_tokenizers()),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def _tokenizers() -> Path:
    """Where tiktoken's vocabularies lie under tiktoken's own file names: in litellm.

    The host depends on dspy-ai, and that on litellm.
    """
    found = find_spec("litellm")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("litellm is not installed; it comes with nano-graphrag")
    return Path(found.origin).parent / "litellm_core_utils" / "tokenizers"
