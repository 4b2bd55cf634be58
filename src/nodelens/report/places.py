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
    """

    title: str
    note: str
    names: tuple[str, ...]

    def fit(self, name: str) -> int:
        """Length of what a table's or figure's name shares with this place, 0 where it does not stand here.

        >>> place = Place("Tables 1 and 2", "", ("table1", "table2"))
        >>> place.fit("table1.test"), place.fit("table10")
        (6, 0)
        """
        return max((len(known) for known in self.names if name == known or name.startswith(f"{known}.")), default=0)


PLACES = (
    Place("Training", "Accuracy on the test images, training loss and learning rate after every epoch.", ("training",)),
    Place(
        "Tables 1 and 2: what the nodes behind each block know",
        "N_c clusters per node, C_s labels per cluster, diag labels and n noise elements per node; signal and noise "
        "are numbers of nodes per label. Beside each: labels permuted, and an untrained network.",
        ("table1", "table2", "statistics"),
    ),
    Place(
        "Figure 3: a node",
        "The average field on each output for inputs of each label; what is above threshold; clusters and noise.",
        ("figure3", "node"),
    ),
    Place(
        "Figure 4: every label alike",
        "Appearances of each label in the diagonals, and its total field.",
        ("figure4", "labels"),
    ),
    Place(
        "Figure 5: the choice of the threshold",
        "Signal-to-noise ratio, on average and of the label that appears least, against the threshold.",
        ("figure5", "sweep"),
    ),
    Place(
        "Figure 6 and Table 3: pruning by nodal diagonals",
        "A weight is kept only where its two nodes share a label (ANDC), beside other ways to remove as many.",
        ("figure6", "table3", "prune", "search", "gain"),
    ),
    Place(
        "Figures 7 to 10, Tables 4 and 5: the heads",
        "A head specialises in a label that its diagonals hold at least twice as often as those of any other head.",
        ("figure7", "figure8", "figure9", "figure10", "table4", "table5", "heads", "enforced"),
    ),
    Place(
        "Figure 11: attention",
        "Output fields of the attention beside the image, and how often they look like it.",
        ("figure11", "heads.fields", "heads.overlap"),
    ),
)

ELSEWHERE = Place("Further tables and figures", "What else the run holds.", ())


def place_of(name: str) -> Place:
    """Where a table or figure stands: the place that shares most with its name."""
    best = max(PLACES, key=lambda place: place.fit(name))
    return best if best.fit(name) else ELSEWHERE
