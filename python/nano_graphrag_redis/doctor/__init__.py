"""Finds the problems of a deployment and fixes some of them; nothing here prints.

``examine`` changes nothing; ``repair`` fixes what can be fixed without a decision.
"""

from __future__ import annotations

from .examination import examine
from .findings import Finding, Repaired, Severity
from .repairs import repair

__all__ = ["Finding", "Repaired", "Severity", "examine", "repair"]
