"""Run directories with measurements that no network made: any labels, any sites, in milliseconds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from nodelens.networks import Site
from nodelens.runs import RunDirectory

HOSTILE = "<script>alert(1)</script>"
QUOTED = 'a "quoted" \\ label'
LABELS = ("bear", "beaver", HOSTILE, QUOTED, "otter", "&amp;", "seal", "whale", "wolf", "lion")
LAYERS = [
    {"name": "block.2.qkv", "source": "block.2.ln", "target": "block.2.qkv"},
    {"name": "block.2.projection", "source": "block.2.attention", "target": "block.2.linear2"},
    {"name": "output", "source": "block.2.linear2", "target": None},
]


def site(name: str, nodes: int, heads: int = 0, positions: int = 1) -> Site:
    layout = "channels" if positions > 1 else "tokens"
    return Site(name, nodes, "module", "output", layout, positions, heads, int(name.split(".")[1]))  # type: ignore[arg-type]


SITES = (
    site("block.1.linear2", 12),
    site("block.2.ln", 12),
    site("block.2.qkv", 36),
    site("block.2.attention", 12, heads=2),
    site("block.2.linear2.no_skip", 12),
    site("block.2.linear2", 12),
)


def write_run(
    path: Path,
    labels: Sequence[str] = LABELS,
    sites: Sequence[Site] = SITES,
    split: str = "test",
    seed: int = 0,
    seeds: int = 1,
) -> RunDirectory:
    """A run directory whose sites were measured on one split, or several, with so many probe seeds."""
    run = RunDirectory(path)
    run.write_json("config.json", {"measure": {"sites": [one.name for one in sites], "layers": LAYERS}})
    generator = torch.Generator().manual_seed(seed)
    for one in sites:
        shape = (seeds, len(labels), one.nodes * one.positions)
        parts = (seeds, len(labels), one.nodes, one.positions)[: 4 if one.positions > 1 else 3]
        means, extra = (torch.randn(shape, generator=generator) for _ in range(2))
        tensors = {"weight": means + extra}
        metadata = {
            "site": json.dumps(dataclasses.asdict(one)),
            "seeds": json.dumps(list(range(seeds))),
            "label_names": json.dumps(list(labels)),
            "layer_norm": "false",
        }
        for i, measured in enumerate(split.split(",")):
            tensors |= {
                f"class_means.{measured}": (means + 0.1 * i).reshape(parts),
                f"counts.{measured}": torch.ones(len(labels), dtype=torch.int64),
                f"accuracy.{measured}": torch.full((seeds,), 0.5, dtype=torch.float64),
            }
            metadata[f"images.{measured}"] = "none"
        run.write_tensors(f"measure/{one.name}.safetensors", tensors, metadata)
    return run
