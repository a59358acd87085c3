"""What is wrong with a deployment, found out and said; nothing here prints.

``examine`` looks and changes nothing, ``repair`` mends what may be mended without a decision.
"""

from __future__ import annotations

from .examination import examine
from .findings import Finding, Repaired, Severity
from .repairs import repair

__all__ = ["Finding", "Repaired", "Severity", "examine", "repair"]
