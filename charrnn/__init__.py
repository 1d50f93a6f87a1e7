"""charrnn: character-level language models with recurrent networks.

``charrnn.train`` and ``charrnn.load`` give a :class:`charrnn.api.Model`; see :mod:`charrnn.api`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charrnn.api import Model, load, train

# Read by PyTorch's OpenMP when it is loaded. By default its threads spin for milliseconds at every barrier; where
# another program has one of the cores, that is time the other thread needs, and a step of 70 ms can take seconds.
# With 5,000 spins a quiet machine is as fast, and a busy one several times faster (measured on two cores).
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    # The command line imports this package too, and must not wait for numpy.
    if name in ("Model", "load", "train"):
        from charrnn import api

        return getattr(api, name)
    raise AttributeError(f"module 'charrnn' has no attribute {name!r}")
