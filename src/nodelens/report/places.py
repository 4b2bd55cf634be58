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

    def holds(self, name: str) -> bool:
        """Whether a table or figure stands here; `table1` holds `table1.test`, not `table10`."""
        return any(name == known or name.startswith(f"{known}.") for known in self.names)


PLACES = (
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
        ("figure7", "figure8", "figure9", "figure10", "table4", "table5", "heads", "symmetry"),
    ),
    Place("Figure 11: attention", "Output fields of the attention beside the image.", ("figure11", "attention")),
)

ELSEWHERE = Place("Further tables and figures", "What else the run holds.", ())
