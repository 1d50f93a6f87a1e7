"""What a run was made with: recorded in every checkpoint, compared on resume."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import charrnn


def environment(processes: int = 1) -> dict[str, str]:
    """Versions and machine, for people and for comparison; nothing that names a person or a folder.

    Args:
        processes: how many compute together.
    """
    record = {
        "charrnn": charrnn.__version__,
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "torch": metadata.version("torch"),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    if "torch" in sys.modules:
        import torch

        record["threads"] = str(torch.get_num_threads())
        record["cpu"] = torch.backends.cpu.get_cpu_capability()
    if processes > 1:
        record["processes"] = str(processes)
    return record
