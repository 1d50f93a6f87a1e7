"""Files and folders that may not be read or written: one line, the right exit code, and nothing changed."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import call

# Root may read and write everything, by capabilities 1 and 2: without them permissions bind it as they do its owner.
# (As another user, tests could not start a Python that lies in root's home.)
_DROP_FROM_BOUNDING_SET, _OVERRIDES = 24, (1, 2)
TEXT = "".join(f"{n} green bottles hanging on the wall\n" for n in range(40))


def ordinary() -> None:
    """In a process about to be another program: let it be bound by permissions, also as root."""
    if os.geteuid() == 0:
        for capability in _OVERRIDES:
            ctypes.CDLL(None).prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)


def is_bound(folder: Path) -> bool:
    """Whether permissions bind an :func:`ordinary` process here."""
    if os.name != "posix" or (os.geteuid() == 0 and sys.platform != "linux"):
        return False
    path = folder / "closed.txt"
    return bool(subprocess.run(["cat", path], preexec_fn=ordinary, capture_output=True).returncode)


@pytest.fixture(scope="module", autouse=True)
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with corpora and runs, some of which may not be read or written."""
    folder = tmp_path_factory.mktemp("permissions")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("text.txt", "closed.txt"):
            Path(name).write_text(TEXT)
        small = ["--hidden-size", "4", "--num-layers", "1", "--batch-size", "2", "--device", "cpu"]
        assert call("train", "text.txt", "--run", "run", "--steps", "2", *small).code == 0
        closed, fixed = [Path("closed.txt"), Path("folder")], [Path("fixed"), Path("bare")]
        for name in ("folder", "bare"):
            Path(name).mkdir()
            shutil.copy("text.txt", name)
        for kind, whole, parts in (("corpora", "text", ["ids.npy", "corpus.json"]), ("checkpoints", "run", [])):
            for part in ["", *parts, *(["best.safetensors"] if kind == "checkpoints" else [])]:
                place = Path(kind, f"no-{part or kind}")
                shutil.copytree(Path(kind, whole), place)
                closed.append(place / part)
            shutil.copytree(Path(kind, whole), Path("fixed", kind, whole))
            fixed.append(Path("fixed", kind))
            Path("none", kind).mkdir(parents=True)
            closed.append(Path("none", kind))
        shutil.copytree("checkpoints/run", "checkpoints/fixed")
        fixed.append(Path("checkpoints/fixed"))
        shutil.copy("text.txt", "fixed")
        for path in fixed:
            path.chmod(0o555)
        for path in closed:
            path.chmod(0)
        if not is_bound(folder):
            pytest.skip("permissions bind nobody here")
        yield folder
        for path in (*closed, *fixed):  # so that they can be removed
            path.chmod(0o755)


#: Where, what is typed, the exit code, and a part of the line.
CASES: list[tuple[str, str, int, str]] = [
    (".", "prepare closed.txt --name x", 3, "closed.txt: may not be read"),
    (".", "prepare folder --name x", 3, "folder: may not be read"),
    (".", "prepare folder/text.txt --name x", 3, "folder/text.txt: may not be read"),
    (".", "prepare folder/*.txt --name x", 3, "folder/*.txt: may not be read"),
    (".", "train closed.txt --run x", 3, "closed.txt: may not be read"),
    (".", "train no-corpora --run x", 3, "corpora/no-corpora: may not be read"),
    (".", "train no-ids.npy --run x", 3, "corpora/no-ids.npy: cannot be read"),
    (".", "train no-corpus.json --run x", 3, "corpora/no-corpus.json: cannot be read"),
    (".", "sample run --prompt-file closed.txt", 3, "closed.txt: cannot be read"),
    (".", "sample run --prompt-file folder/text.txt", 3, "folder/text.txt: cannot be read"),
    (".", "eval run --text closed.txt", 3, "closed.txt: may not be read"),
    (".", "eval run --text folder", 3, "folder: may not be read"),
    (".", "eval run --text no-ids.npy", 3, "corpora/no-ids.npy: cannot be read"),
    (".", "info corpora/no-corpora", 3, "corpora/no-corpora: may not be read"),
    (".", "info corpora/no-corpus.json", 3, "corpora/no-corpus.json: cannot be read"),
    (".", "sample no-best.safetensors", 4, "no-best.safetensors/best.safetensors: cannot be read (Permission denied)"),
    (
        ".",
        "sample no-checkpoints",
        4,
        "checkpoints/no-checkpoints/best.safetensors: cannot be read (Permission denied)",
    ),
    (".", "eval no-best.safetensors", 4, "no-best.safetensors/best.safetensors: cannot be read (Permission denied)"),
    (".", "eval no-checkpoints", 4, "checkpoints/no-checkpoints/best.safetensors: cannot be read (Permission denied)"),
    (".", "info no-checkpoints", 4, "checkpoints/no-checkpoints/best.safetensors: cannot be read (Permission denied)"),
    (
        ".",
        "train --resume --run no-checkpoints",
        4,
        "no-checkpoints/last.safetensors: cannot be read (Permission denied)",
    ),
    (
        ".",
        "train text --init-from no-checkpoints",
        4,
        "no-checkpoints/best.safetensors: cannot be read (Permission denied)",
    ),
    (".", "train --resume --run fixed --steps 4", 6, "checkpoints/fixed/config.toml: cannot be written"),
    (".", "train text --run fixed --force --steps 4", 6, "Permission denied"),
    (".", "prepare text.txt --output bare/x", 2, "bare/x: cannot be written (Permission denied)"),
    ("bare", "prepare text.txt", 2, "corpora/text: cannot be written (Permission denied)"),
    ("fixed", "prepare text.txt --force", 2, "corpora/text: cannot be written (Permission denied)"),
    ("fixed", "train text --run x --steps 2", 6, "checkpoints/x: Permission denied"),
    ("none", "info", 4, "checkpoints: cannot be read (Permission denied)"),
    ("none", "sample", 4, "checkpoints: cannot be read (Permission denied)"),
    ("none", "sample run", 4, "checkpoints/run/best.safetensors: cannot be read (Permission denied)"),
]


def state() -> list[str]:
    """Every file and folder of the workplace."""
    return sorted(str(path) for path in Path().rglob("*"))


@pytest.mark.parametrize(
    ("where", "typed", "code", "line"), CASES, ids=[f"{where} {typed}" for where, typed, *_ in CASES]
)
def test_what_permissions_forbid_is_one_line_with_its_exit_code(where: str, typed: str, code: int, line: str) -> None:
    before = state()
    done = subprocess.run(
        [sys.executable, "-m", "charrnn", *typed.split()],
        cwd=where,
        preexec_fn=ordinary,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    said = [each for each in done.stderr.splitlines() if each.startswith("charrnn: ")]
    assert said == done.stderr.splitlines()[-1:]
    assert line in said[0]
    assert done.returncode == code
    assert done.stdout == ""
    assert state() == before
