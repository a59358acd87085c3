"""What lies in Redis, namespace by namespace, as the library's own statistics tell it."""

from datetime import timedelta

from rich.table import Table

from nano_graphrag_redis import SyncRedisKVStorage

NAMESPACES = ("full_docs", "text_chunks", "community_reports", "llm_response_cache")

_SHORT_ID = 16  # letters, so that the table fits a narrow terminal


def inventory(redis_url: str) -> Table:
    """A table of keys, lifetime and memory per namespace.

    Args:
        redis_url: Of the server to look at.
    """
    table = Table(title="What lies in Redis", title_justify="left")
    table.add_column("namespace", no_wrap=True)
    table.add_column("keys", justify="right", no_wrap=True)
    table.add_column("time to live", justify="right", no_wrap=True)
    table.add_column("memory, about", justify="right", no_wrap=True)
    table.add_column("one of the ids", no_wrap=True)
    for namespace in NAMESPACES:
        with SyncRedisKVStorage(namespace, {"redis_url": redis_url}) as store:
            stats = store.get_stats()
            ids = store.all_keys()
        table.add_row(
            namespace,
            f"{stats['key_count']:,}",
            _lifetime(stats["ttl_seconds"]),
            f"{stats['key_count'] * (stats['sample_memory_usage'] or 0) / 1024:,.0f} KiB",
            min(ids, default="")[:_SHORT_ID],
        )
    return table


def _lifetime(seconds: int) -> str:
    return str(timedelta(seconds=seconds)) if seconds else "for ever"
