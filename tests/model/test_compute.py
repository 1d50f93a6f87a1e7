"""Where to compute: what is too large for the machine, or for the container that it runs in, is refused."""

from __future__ import annotations

import os
import re
from dataclasses import replace

import pytest
import torch

from charrnn.config import Config
from charrnn.errors import ResourceError
from charrnn.model import compute
from charrnn.model.compute import Compute, check_memory, memory_of
from charrnn.presets import settle

CPU = Compute(torch.device("cpu"), "fp32")


@pytest.mark.parametrize(
    ("limits", "bytes_there"),
    [
        ([None, None], 1 << 40),
        (["max\n", None], 1 << 40),  # no limit, as version 2 says it
        ([None, f"{2**63 - 4096}\n"], 1 << 40),  # and as version 1 does
        (["5000000\n", None], 5_000_000),
        ([None, "5000000\n"], 5_000_000),
        (["6000000\n", "5000000\n"], 5_000_000),
        (["", "nonsense"], 1 << 40),
    ],
)
def test_memory_is_the_machines_or_less_where_a_container_may_use_less(tmp_path, monkeypatch, limits, bytes_there):
    paths = tuple(tmp_path / str(number) for number in range(len(limits)))
    for path, limit in zip(paths, limits, strict=True):
        if limit is not None:
            path.write_text(limit)
    monkeypatch.setattr(compute, "_LIMITS", paths)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1 << 30, "SC_PAGE_SIZE": 1 << 10}.get, raising=False)
    assert memory_of(CPU.device) == bytes_there
    config = settle(Config(), characters=100_000, machine="cpu-fp32", preset="small").config
    if bytes_there == 5_000_000:
        with pytest.raises(
            ResourceError, match=r"GB of memory or more, and there are 0\.0: .*; choose a smaller --hidden"
        ):
            check_memory(config, 100, 100_000, CPU)
    else:
        check_memory(config, 100, 100_000, CPU)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("there", [50_000_000, 100_000_000, 300_000_000])
def test_the_parts_that_are_advised_fit_and_fewer_would_not(monkeypatch, there, processes):
    monkeypatch.setattr(compute, "memory_of", lambda device: there)
    config = settle(Config(), characters=10**9, machine="cpu-fp32", preset="base").config

    def of(parts: int) -> Config:
        return replace(config, training=replace(config.training, batch_size=1 << 16, accumulation=parts))

    with pytest.raises(ResourceError) as error:
        check_memory(of(1), 100, 10**9, CPU, processes)
    (advised,) = map(int, re.findall(r"try --accumulation (\d+)", str(error.value)))
    check_memory(of(advised), 100, 10**9, CPU, processes)
    with pytest.raises(ResourceError):
        check_memory(of(advised - 1), 100, 10**9, CPU, processes)


def test_a_system_that_does_not_tell_its_memory_refuses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(compute, "_LIMITS", (tmp_path / "none",))
    monkeypatch.delattr(os, "sysconf", raising=False)  # as on Windows
    assert memory_of(CPU.device) is None
    config = settle(Config(), characters=100_000, machine="cpu-fp32", preset="small").config
    check_memory(config, 1 << 40, 100_000, CPU)
