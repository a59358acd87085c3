"""Imported by every Python that is started under ``nano-graphrag-redis run``, before anything else.

``run`` puts this directory first in PYTHONPATH, and ``site`` imports the first ``sitecustomize``
that it finds. The interpreter may be any: an old one, or one that lacks this package. So this file
keeps to the syntax that Python 2.7 knows too, and imports nothing that costs time.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))

if sys.version_info >= (3, 10):  # what the package itself needs
    import _nano_graphrag_redis_hook  # type: ignore[import-not-found]

    _nano_graphrag_redis_hook.install()

# The sitecustomize that would have been imported without this one takes its place.
_places = [at for at, entry in enumerate(sys.path) if os.path.abspath(entry) == _HERE]
_entries = [(at, sys.path[at]) for at in _places]
for _, _entry in _entries:
    sys.path.remove(_entry)
_this = sys.modules.pop(__name__, None)
try:
    import sitecustomize  # type: ignore[import-not-found] # noqa: F401
except ImportError as error:
    # Python 2 does not say which module is missing, and its site ignores the error as well.
    if getattr(error, "name", __name__) != __name__:
        raise
finally:
    # Back again, for programs that hand sys.path on to their children.
    for _at, _entry in _entries:
        sys.path.insert(_at, _entry)
    if __name__ not in sys.modules and _this is not None:
        sys.modules[__name__] = _this
