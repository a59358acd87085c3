"""Counts the cached LLM answers by model, with the blocking storage and without nano-graphrag.

REDIS_URL=redis://localhost:6379 python examples/what_is_cached.py
"""

from collections import Counter

from nano_graphrag_redis import SyncRedisKVStorage

BATCH = 500


def main() -> None:
    """Read the answers in batches, so that memory does not grow with their number."""
    answers: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    with SyncRedisKVStorage("llm_response_cache") as cache:
        ids = cache.all_keys()
        for start in range(0, len(ids), BATCH):
            for cached in cache.get_by_ids(ids[start : start + BATCH]):
                if cached is not None:  # it may have expired since
                    answers[cached["model"]] += 1
                    letters[cached["model"]] += len(cached["return"])
    for model, number in answers.most_common():
        print(f"{model}: {number} answers, {letters[model]:,} letters")


if __name__ == "__main__":
    main()
