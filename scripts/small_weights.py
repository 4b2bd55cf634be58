"""Copy the trained networks of all runs into files that are small enough to travel.

A file that is too large as it is travels in half precision, which `nodelens` reads like any other; one that is
too large even so is left out, and said.

    python scripts/small_weights.py RUNS FOLDER BYTES
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save


def small_weights(model: Path, most: int) -> tuple[bytes | None, str]:
    """What travels of a safetensors file, and how it differs: `""`, `.half`; None where nothing fits."""
    if model.stat().st_size <= most:
        return model.read_bytes(), ""
    with safe_open(model, framework="pt") as file:
        metadata = file.metadata()
        halves = {}
        for name in file.keys():  # noqa: SIM118 (the file is no mapping)
            tensor = file.get_tensor(name)
            halves[name] = tensor.half() if tensor.dtype == torch.float32 else tensor
    content = save(halves, metadata)
    return (content, ".half") if len(content) <= most else (None, "")


def main(runs: Path, folder: Path, most: int) -> None:
    """Write `<run>.safetensors` for the `model.safetensors` of every run; a run's name has its folders."""
    for model in sorted(runs.rglob("model.safetensors")):
        name = "-".join(model.parent.relative_to(runs).parts) or "model"
        content, suffix = small_weights(model, most)
        if content is None:
            print(f"{model} is left out: more than {most / 2**20:g} MiB even in half precision")
        else:
            (folder / f"{name}{suffix}.safetensors").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
