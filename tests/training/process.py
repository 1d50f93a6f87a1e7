"""What ``torchrun`` starts in tests: charrnn, in a process that something happens to before a step.

``DISASTERS`` is JSON: for each life of the group, a rank, a step, and the signal that the rank sends itself then, or a
line that it fails with.
"""

from __future__ import annotations

import json
import os
from typing import Any

from charrnn.cli import main
from charrnn.errors import ResourceError
from charrnn.training.trainer import Trainer


def beset(disasters: list[Any]) -> None:
    """Let what is written come to pass."""
    advance, life = Trainer._advance, int(os.environ["TORCHELASTIC_RESTART_COUNT"])

    def advance_or_not(trainer: Trainer) -> None:
        if life < len(disasters):
            rank, step, what = disasters[life]
            if (trainer.group.rank, trainer.step) == (rank, step):
                if isinstance(what, str):
                    raise ResourceError(what)
                os.kill(os.getpid(), what)
        advance(trainer)

    Trainer._advance = advance_or_not  # type: ignore[method-assign]


if __name__ == "__main__":
    beset(json.loads(os.environ.get("DISASTERS", "[]")))
    main()
