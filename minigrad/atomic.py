"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["replacing"]


@contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A new file that takes the target's place when this block ends; after an error there, nothing has changed."""
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")  # tempfile's are for their owner alone
    try:
        with part.open("xb") as file:
            yield file
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
