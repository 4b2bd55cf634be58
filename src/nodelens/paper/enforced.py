"""The discussion's question: what if the labels of each head are given to it before training?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nodelens.data import ImageSet, load_images
from nodelens.errors import InputError
from nodelens.heads.study import HeadSettings, HeadStudy, load_head_data
from nodelens.paper.scales import Scale, precision_of, recipe_of, scale_probes
from nodelens.report.expert_tables import expert_rows
from nodelens.report.tables import Row, TextTable, mean_and_spread, rounded, with_spread
from nodelens.report.training import training_events
from nodelens.runs import RunDirectory
from nodelens.training import EnforcedHeads, TrainSettings, train
from nodelens.training.enforced import RANDOM, SUPERCLASS, labels_of_heads

HEADS = 4
FREE, ENFORCED = "free", "enforced"
COLUMNS = {
    "network": "Acc",
    "owned": "labels owned",
    "owned_null": "by chance",
    "information": "bits",
    "matched": "as given",
    "own": "Acc own head",
    "others": "others",
}


def enforced(scale: Scale, run: RunDirectory, checkpoint: Path | None = None, seed: int = 0) -> list[TextTable]:
    """Free against enforced training at equal budget, three seeds each: accuracy, and whose labels are whose.

    `nodelens reproduce enforced --scale cpu`; six trainings of a CCT-2/3x2 with four heads. "Preliminary results" of
    the paper say that enforcing breaks the symmetry and might even increase the accuracy; it gives no number.
    """
    if checkpoint is not None:
        raise InputError("free and enforced networks are trained anew; leave out --checkpoint")
    training, test = (load_images(scale.data, split) for split in ("train", "test"))
    rows = []
    for training_seed in range(seed, seed + scale.seeds):
        for kind in (FREE, ENFORCED):
            of_network = RunDirectory(run.path / f"{kind}-{training_seed}")
            with of_network.claimed():
                found = _measured(scale, of_network, kind, training, test)
            rows.append({"of": kind, "seed": training_seed, **found})
    run.write_table("enforced", rounded(rows))
    table = enforced_table(rows, f"Labels given to heads (weight {EnforcedHeads.weight:g}) or not, {_network(scale)}")
    run.write_text("tables/enforced.md", table.markdown())
    return [table]


def _network(scale: Scale) -> str:
    return scale.enforced_network or scale.network


def _measured(scale: Scale, run: RunDirectory, kind: str, training: ImageSet, test: ImageSet) -> Row:
    """Train one network (or read it) and measure the heads of its last block."""
    seed = int(run.path.name.rpartition("-")[2])
    precision = precision_of(run)
    given = EnforcedHeads(SUPERCLASS if training.superclass_names else RANDOM)
    settings = TrainSettings(_network(scale), recipe_of(scale), seed, precision, heads=(HEADS,))
    network = train(replace(settings, enforced=given) if kind == ENFORCED else settings, training, test, run)
    probe = scale_probes(scale, network, (seed,), seed, precision)
    study = HeadStudy(network, load_head_data(network, scale.data), HeadSettings(probe=probe), run)
    return _last_block(study, given, training, seed, training_events(run)[-1]["test_accuracy"])


def _last_block(study: HeadStudy, given: EnforcedHeads, training: ImageSet, seed: int, accuracy: float) -> Row:
    """`matched`: of the labels owned, the share whose head is the one that they were (or would be) given to."""
    site = study.sites[-1]
    owner, symmetry = study.specialization(site).head_of_label, study.symmetry[site.name][0]
    owned = (owner >= 0).nonzero().flatten()
    labels = labels_of_heads(given, site.heads, training, seed)
    matched = labels[owner[owned], owned].double().mean() if len(owned) else float("nan")
    at = symmetry.ratios.index(study.settings.ratio)
    every = next(row for row in expert_rows(study, site) if row["head"] == "all")
    return {
        "network": accuracy,
        "owned": float(len(owned)),
        "owned_null": float(symmetry.owned[at].mean),
        "information": float(symmetry.information.observed),
        "matched": float(matched),
        "own": every["own"],
        "others": every["others"],
    }


def enforced_table(rows: list[Row], title: str) -> TextTable:
    """Mean and spread over the seeds of free and of enforced training; `as given` is 1 in 4 by chance."""
    seeds = len({row["seed"] for row in rows})
    table = TextTable(f"{title}, {seeds} seeds, last block", ("training", *COLUMNS.values()), names=1)
    for kind in (FREE, ENFORCED):
        of_kind = [row for row in rows if row["of"] == kind]
        found: Row = {}
        for name in COLUMNS:
            found |= mean_and_spread(name, [row[name] for row in of_kind if row[name] == row[name]])
        table.add_group((kind, *(with_spread(found[name], found[f"{name}_std"]) for name in COLUMNS)))
    return table
