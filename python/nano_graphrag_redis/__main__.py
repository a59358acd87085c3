"""``python -m nano_graphrag_redis`` is the command ``nano-graphrag-redis``."""

import sys

from .cli import main

sys.exit(main())
