"""charrnn: character-level language models with recurrent networks.

``charrnn.train`` and ``charrnn.load`` give a :class:`charrnn.api.Model`; see :mod:`charrnn.api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charrnn.api import Model, load, train

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    # The command line imports this package too, and must not wait for numpy.
    if name in ("Model", "load", "train"):
        from charrnn import api

        return getattr(api, name)
    raise AttributeError(f"module 'charrnn' has no attribute {name!r}")
