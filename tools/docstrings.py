"""Has the reference show the examples of docstrings as code: an extension of griffe.

Our docstrings have the section ``Example:``, as Google's style does; griffe knows ``Examples:``.
"""

from __future__ import annotations

from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Renames the section, in what is read for the site alone."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with every object that is read."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
