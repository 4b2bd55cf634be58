"""Parts of a study in the run directory: `heads/<part>/<site>.safetensors`, each kept as soon as it is known."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from nodelens.files import read_metadata, read_tensors
from nodelens.processes import by_first
from nodelens.runs import RunDirectory


def part_file(part: str, site: str) -> str:
    """Path of a part's file inside the run directory."""
    return f"heads/{part}/{site}.safetensors"


@by_first
def kept(run: RunDirectory, part: str, site: str, source: str) -> dict[str, Tensor] | None:
    """The part of a site, where the run has it and it was made from this source; else None.

    Args:
        source: fingerprint of all that determines the part.
    """
    path = run.path / part_file(part, site)
    if not path.exists() or read_metadata(path).get("source") != source:
        return None
    return read_tensors(path)


def keep(run: RunDirectory, part: str, site: str, source: str, tensors: Mapping[str, Tensor]) -> None:
    """Write the part of a site; one made from another source is gone."""
    run.write_tensors(part_file(part, site), tensors, {"source": source})
