"""What pruning gains: sizes, multiply-adds, memory, and executions chosen by measurement."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nodelens.errors import InputError
from nodelens.networks import CCT, apply_masks, layer_weight, layers, stored
from nodelens.pruning import execution, packed
from nodelens.pruning.compact import compact
from nodelens.pruning.execution import Trial, choose_executions, executed, executions_of, sparse_layers
from nodelens.pruning.gain import TensorsAlive, costs, multiply_adds, peak_bytes, sizes, spared
from nodelens.pruning.packed import segment_sizes
from nodelens.report.gain import report_gain
from nodelens.runs import RunDirectory


@pytest.fixture
def pruned(cct: CCT) -> CCT:
    generator = torch.Generator().manual_seed(0)
    masks = {}
    for layer in layers(cct)[:-1]:
        rows, columns = layer_weight(cct, layer).shape
        masks[layer.module] = torch.rand(rows, columns, generator=generator) < 0.2
        masks[layer.module][: rows // 4] = False
    apply_masks(cct, masks)
    return cct


def test_sizes_are_those_of_the_files(pruned: CCT, tmp_path: Path) -> None:
    dense, small = sizes(pruned)
    tensors, metadata = stored(pruned)
    RunDirectory(tmp_path).write_tensors("pruned.safetensors", tensors, metadata)
    # The file also holds the network's configuration and the masks' shapes.
    assert 0 <= (tmp_path / "pruned.safetensors").stat().st_size - small["bytes"] < 3000
    assert dense["weights"] - small["weights"] == dense["in_pruned_layers"] - small["in_pruned_layers"]
    assert small["in_pruned_layers"] == sum(
        int((layer_weight(pruned, layer) != 0).sum()) for layer in layers(pruned)[:-1]
    )
    assert small["bytes"] < dense["bytes"]


def test_a_network_that_is_not_pruned_gains_nothing(cct: CCT) -> None:
    with pytest.raises(InputError, match="the network is not pruned"):
        sizes(cct)


def test_multiply_adds_by_hand(cct: CCT) -> None:
    config = cct.config
    tokens, width, hidden = config.tokens, config.width, config.feedforward
    per_block = tokens * (3 * width * width + width * width + 2 * width * hidden) + 2 * tokens * tokens * width
    # The tokenizer's convolution keeps the size of the image; sequence pooling is a product per token, twice.
    tokenizer = config.image_size**2 * width * config.channels * config.kernel**2
    read_out = 2 * tokens * width + width * config.labels
    expected = tokenizer + config.layers * per_block + read_out
    assert multiply_adds(cct, torch.randn(1, 1, 8, 8)) == expected


def test_the_peak_counts_what_is_alive_at_once() -> None:
    with TensorsAlive() as alive:
        first = torch.ones(1000)
        second = first.reshape(10, 100) + 1
        assert alive.peak == 8000
        del first
        third = second * 2
        third += 1
        assert alive.alive == 8000
    assert alive.peak == 8000
    layer = nn.Linear(100, 50, bias=False)
    images = torch.zeros(8, 100)
    assert peak_bytes(layer, images) == 4 * (100 * 50 + 8 * 100 + 8 * 50)


def test_the_chosen_executions_compute_the_same(pruned: CCT, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(3, 1, 8, 8)
    smaller = compact(pruned)
    # As if any other execution were faster: otherwise these small layers stay dense.
    monkeypatch.setattr(execution, "FASTER", float("inf"))
    monkeypatch.setattr(execution, "ratio", lambda found, way, _: {"dense": 3.0, "4 groups": 1.0}.get(way, 2.0))
    chosen, trials = choose_executions(smaller, executions_of(smaller), images, rounds=1)
    assert chosen.keys() == sparse_layers(smaller).keys()
    assert {trial.execution for trial in trials if trial.chosen} == {"4 groups"}
    network = executed(smaller, chosen)
    with torch.no_grad():
        torch.testing.assert_close(network(images), pruned(images), rtol=1e-4, atol=1e-5)
    assert sparse_layers(smaller)
    assert not sparse_layers(network)


def test_dense_stays_where_nothing_is_faster(pruned: CCT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "ratio", lambda found, way, _: 1.0)
    smaller = compact(pruned)
    chosen, trials = choose_executions(smaller, executions_of(smaller), torch.randn(2, 1, 8, 8), rounds=1)
    assert not chosen
    assert {trial.execution for trial in trials if trial.chosen} == {"dense"}


def test_costs_of_every_batch_and_execution(pruned: CCT) -> None:
    rows, tried = costs(pruned, torch.randn(4, 1, 8, 8), batch_sizes=(1, 4), rounds=1)
    assert [(row["batch"], row["executed"]) for row in rows] == [
        (size, way) for size in (1, 4) for way in ("dense", "compact", "packed")
    ]
    for size in (1, 4):
        dense, small, packed = (row for row in rows if row["batch"] == size)
        assert packed["multiply_adds"] <= small["multiply_adds"] <= dense["multiply_adds"]
        # Layers this small are no wider than the multiple that compaction keeps by itself.
        assert multiply_adds(compact(pruned, 1), torch.randn(1, 1, 8, 8)) < dense["multiply_adds"]
        assert small["peak_bytes"] <= dense["peak_bytes"]
        of_size = [row for row in tried if row["batch"] == size]
        for layer in {row["layer"] for row in of_size}:
            assert sum(row["chosen"] for row in of_size if row["layer"] == layer) == 1


def test_outputs_are_put_in_order_once_for_all_batches_and_groups(pruned: CCT, monkeypatch: pytest.MonkeyPatch) -> None:
    ordered = []

    def counted(reads: np.ndarray) -> np.ndarray:
        ordered.append(reads.shape)
        return segment_sizes(reads)

    monkeypatch.setattr(packed, "segment_sizes", counted)
    _, tried = costs(pruned, torch.randn(4, 1, 8, 8), batch_sizes=(1, 2, 4), rounds=1)
    assert len(ordered) == len({row["layer"] for row in tried})


def test_an_error_leaves_no_hooks(pruned: CCT) -> None:
    smaller, wrong = compact(pruned), torch.randn(2, 3, 8, 8)
    layer = next(iter(sparse_layers(smaller)))
    with pytest.raises(RuntimeError, match="channels"):
        choose_executions(smaller, executions_of(smaller), wrong, rounds=1)
    with pytest.raises(RuntimeError, match="channels"):
        spared(smaller, [Trial(layer, "4 groups", 0.5, 1, chosen=True)], wrong)
    assert not any(module._forward_pre_hooks for module in smaller.modules())


def test_the_report_writes_its_tables(pruned: CCT, tmp_path: Path) -> None:
    shown = report_gain(pruned, RunDirectory(tmp_path), (1, 2), rounds=1)
    assert len(shown) == 3
    with (tmp_path / "tables" / "gain.csv").open() as file:
        assert {row["executed"] for row in csv.DictReader(file)} == {"dense", "compact", "packed"}
    assert "on disk, MB" in (tmp_path / "tables" / "gain.size.md").read_text()
    (event,) = RunDirectory(tmp_path).events("gain")
    assert "torch" in event["machine"]
