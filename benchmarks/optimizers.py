"""How far a network comes with AdamW and with Muon, at several learning rates.

    python benchmarks/optimizers.py --out FOLDER [--network cct_2_3x2] [--data cifar100] [--recipe cct-cpu] [--epochs 4]
                                    [--adamw 1e-3,2e-3,4e-3] [--muon 1e-3,2e-3,3e-3,6e-3,1e-2]

Trains the network once with each optimizer at each rate, everything else as the recipe says, and prints the test
accuracy after the last epoch, the last epoch's loss and the images a second (median over the epochs).
How: as `nodelens train --precision bf16`, seed 0, each in a run directory of its own under FOLDER, where it goes on
after a kill; a run that is finished is only read. Rates are compared by the test accuracy: this chooses a recipe for a
kind of network, not a network.
CCT-2/3x2: 15 minutes on two cores; CCT-7/3x2 with 3 epochs: 10 minutes for each.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import median

from timing import print_table

from nodelens.data import load_images
from nodelens.memory import keep_freed_memory
from nodelens.runs import RunDirectory
from nodelens.training import Recipe, TrainSettings, recipe, train

MOMENTUM = 0.95
"""Muon's, as in the recipes; AdamW has none of this kind."""


def rates(text: str) -> list[float]:
    return [float(rate) for rate in text.split(",") if rate]


def reached(network: str, data: str, chosen: Recipe, folder: Path) -> tuple[float, float, float]:
    """Test accuracy and loss after the last epoch, and images a second."""
    training, test = load_images(data, "train"), load_images(data, "test")
    run = RunDirectory(folder)
    with run.claimed():
        train(TrainSettings(network, chosen, precision="bf16"), training, test, run)
    epochs = run.events("train")
    speed = median(epoch["images_per_second"] for epoch in epochs)
    return epochs[-1]["test_accuracy"], epochs[-1]["loss"], speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--network", default="cct_2_3x2")
    parser.add_argument("--data", default="cifar100")
    parser.add_argument("--recipe", default="cct-cpu")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--adamw", type=rates, default=[1e-3, 2e-3, 4e-3])
    parser.add_argument("--muon", type=rates, default=[1e-3, 2e-3, 3e-3, 6e-3, 1e-2])
    asked = parser.parse_args()

    keep_freed_memory()
    base, rows = recipe(asked.recipe, asked.epochs), []
    for name in ("adamw", "muon"):
        for rate in getattr(asked, name):
            chosen = replace(base, optimizer=name, momentum=MOMENTUM, learning_rate=rate)
            found = reached(asked.network, asked.data, chosen, asked.out / f"{asked.network}-{name}-{rate:g}")
            rows.append((name, rate, *found))
    title = f"{asked.network}, {asked.data}, recipe {asked.recipe} with {asked.epochs} epochs, bf16"
    print_table(title, ("optimizer", "learning rate", "test accuracy", "loss", "images/s"), rows)


if __name__ == "__main__":
    main()
