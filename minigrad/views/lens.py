"""The gradient lens in the terminal: what each measure found, in a sentence, and the evidence below it.

Each function takes a Record, or what the measure of its name gave, and returns a thing that rich prints, in a
notebook too; it prints nothing.
"""

from __future__ import annotations

from .lens_gates import gates
from .lens_limits import clipping, truncation
from .lens_reach import attribution, jacobian
from .lens_terms import terms

__all__ = ["attribution", "clipping", "gates", "jacobian", "terms", "truncation"]
