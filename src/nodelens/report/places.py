"""Where the tables and figures of a run stand on the page: the paper's order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A section of the page.

    Attributes:
        title: its heading.
        note: what a reader sees here, in a sentence or two.
        names: beginnings of the names of the tables and figures that stand here.
        paper: the paper's tables and figures that have their place here.
        command: what makes them.
    """

    title: str
    note: str
    names: tuple[str, ...]
    paper: tuple[str, ...] = ()
    command: str = ""

    def fit(self, name: str) -> int:
        """Length of what a table's or figure's name shares with this place, 0 where it does not stand here.

        >>> place = Place("Tables 1 and 2", "", ("table1", "table2"))
        >>> place.fit("table1.test"), place.fit("table10")
        (6, 0)
        """
        return max((len(known) for known in self.names if name == known or name.startswith(f"{known}.")), default=0)


COMPARED = Place(
    "The runs side by side",
    "Statistics of the nodes behind each block, run by run; a difference is the second run's number less the first's.",
    (),
)
"""Where there are several runs, before everything else."""

PLACES = (
    Place("Training", "Test accuracy, training loss and learning rate after every epoch.", ("training",)),
    Place(
        "Tables 1 and 2: what the nodes behind each block know",
        "N_c clusters per node, C_s labels per cluster, diag labels and n noise elements per node; signal and noise "
        "are numbers of nodes per label. Beside each: labels permuted, and an untrained network.",
        ("table1", "table2", "statistics", "growth"),
        ("Table 1", "Table 2"),
        "nodelens measure",
    ),
    Place(
        "Figure 3: a node",
        "The average field on each output for inputs of each label; what is above threshold; clusters and noise.",
        ("figure3", "node"),
        ("Figure 3",),
        "nodelens measure",
    ),
    Place(
        "Figure 4: every label alike",
        "Appearances of each label in the diagonals, and its total field.",
        ("figure4", "labels"),
        ("Figure 4",),
        "nodelens measure",
    ),
    Place(
        "Figure 5: the choice of the threshold",
        "Signal-to-noise ratio, on average and of the label that appears least, against the threshold.",
        ("figure5", "sweep"),
        ("Figure 5",),
        "nodelens measure",
    ),
    Place(
        "Figure 6 and Table 3: pruning by nodal diagonals",
        "A weight is kept only where its two nodes share a label (ANDC), beside other ways to remove as many. "
        "Pruned: the accuracy before retraining; permuted: as ANDC, with permuted labels; branch: all weights removed, "
        "only the skip connection left; vanished only: the weights of nodes that stand for no label. By chance: labels "
        "drawn at random; relative |w|: mean of the weights kept, over the layer's.",
        ("figure6", "table3", "prune", "search", "gain"),
        ("Figure 6", "Table 3"),
        "nodelens prune",
    ),
    Place(
        "Figure 7: appearances of the labels in each head",
        "Number of the head's nodes whose diagonal holds the label; a head specialises in a label that it holds so "
        "many times as often as any other head (the ratio).",
        ("figure7", "heads.appearances"),
        ("Figure 7",),
        "nodelens heads",
    ),
    Place(
        "Table 4: the labels of the heads and their super-classes",
        "Labels that each head specialises in, and super-classes that hold exactly so many of them, beside as many "
        "random labels.",
        ("table4", "heads.superclasses", "heads.labels"),
        ("Table 4",),
        "nodelens heads (with --superclasses where the data set has none)",
    ),
    Place(
        "Figure 8: each head knows its labels best",
        "Accuracy of a label in its own head, and in the others. Best: share of the head's labels that no other head "
        "knows as well; corr.: between how often a label appears in the head and its accuracy there (95 %: from "
        "resampled labels).",
        ("figure8", "heads.accuracies", "heads.experts"),
        ("Figure 8",),
        "nodelens heads",
    ),
    Place(
        "Figure 9: accuracy with and without symmetry breaking",
        "The whole network's accuracy for labels that a head specialises in, and for the others.",
        ("figure9", "heads.symmetry"),
        ("Figure 9",),
        "nodelens heads",
    ),
    Place(
        "Figure 10: the choice of the ratio",
        "Labels that a head specialises in, against how often it must hold them in comparison to any other head.",
        ("figure10", "heads.ratio"),
        ("Figure 10",),
        "nodelens heads",
    ),
    Place(
        "Table 5: symmetry breaking along the blocks",
        "Accuracy of the probe, and labels of each head in every block. Participation: by how much the leading head of "
        "a label stands out; bits: what a label tells of the head that holds it. Beside each: nodes permuted among the "
        "heads.",
        ("table5", "heads.depth", "heads.order"),
        ("Table 5",),
        "nodelens heads",
    ),
    Place(
        "Figure 11: attention",
        "Output fields of the attention beside the image, and how often they look like it.",
        ("figure11", "heads.fields", "heads.overlap"),
        ("Figure 11",),
        "nodelens heads",
    ),
    Place(
        "The heads, beyond the paper",
        "Heads that share keys and values; along training; silenced in the network itself; that were given their "
        "labels in advance.",
        ("heads", "enforced"),
    ),
)

ELSEWHERE = Place("Further tables and figures", "What else the run holds.", ())


def place_of(name: str) -> Place:
    """Where a table or figure stands: the place that shares most with its name."""
    best = max(PLACES, key=lambda place: place.fit(name))
    return best if best.fit(name) else ELSEWHERE
