"""Settings: read from the host's configuration and the environment, checked once, then frozen.

Nothing else in this library reads an environment variable of its own or looks into
``global_config``.
"""

from .redis_config import RedisConfig
from .sources import kv_backend

__all__ = ["RedisConfig", "kv_backend"]
