"""The gradient lens in the terminal: what each measure found, in a sentence, and the evidence below it.

Each function takes a Record, or what the measure of its name gave, and returns a thing that rich prints, in a
notebook too; it prints nothing.
"""

from __future__ import annotations

from .lens_gates import gates
from .lens_history import history
from .lens_limits import clipping, truncation
from .lens_reach import attribution, jacobian
from .lens_show import load_ipython_extension, show
from .lens_surface import descents, surface
from .lens_terms import terms

__all__ = ["attribution", "clipping", "descents", "gates", "history", "jacobian", "load_ipython_extension",
           "show", "surface", "terms", "truncation"]  # fmt: skip
