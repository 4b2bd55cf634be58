"""The learning curve of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nodelens.errors import InputError
from nodelens.processes import by_first
from nodelens.report.figures import STYLE, Panels, panels_of, save_figure
from nodelens.report.palette import BLUE, GREY
from nodelens.runs import RunDirectory

Event = dict[str, Any]


def training_events(run: RunDirectory) -> list[Event]:
    """What a finished training logged, epoch by epoch.

    Raises:
        InputError: nothing; the log was lost.
    """
    events = [{name: value for name, value in event.items() if name != "command"} for event in run.events("train")]
    if not events:
        raise InputError(f"{run.path} holds a trained network but log.jsonl says nothing of its training; put it back")
    return events


@by_first
def report_training(run: RunDirectory) -> None:
    """Write `tables/training.csv` and `figures/training` from the run's log, an epoch a row."""
    events = training_events(run)
    run.write_table("training", events)
    save_figure(learning_curve_figure(events), run.path / "figures" / "training")


def learning_curve_figure(events: Sequence[Event], into: Panels = None) -> Figure:
    """Test accuracy (left) and training loss with the learning rate (right) after every epoch.

    Args:
        into: two axes to draw into; a new figure by default.
    """
    with matplotlib.rc_context(STYLE):
        figure, panels = panels_of(into, 1, 2, (7.2, 2.8))
        left, right = panels[0]
        draw_epochs(left, events, "test_accuracy", "test accuracy")
        last = events[-1]
        left.annotate(
            f"{last['test_accuracy']:.4f}",
            (last["epoch"], last["test_accuracy"]),
            xytext=(-4, -14),
            textcoords="offset points",
            ha="right",
            color=BLUE,
        )
        draw_epochs(right, events, "loss", "training loss (smoothed labels)")
        rates = right.twinx()
        rates.plot([e["epoch"] for e in events], [e["learning_rate"] for e in events], "--", color=GREY, linewidth=1)
        rates.set_ylabel("learning rate (dashed)", color=GREY)
        rates.set_ylim(bottom=0)
        rates.spines["right"].set_visible(True)
    return figure


def draw_epochs(axes: Axes, events: Sequence[Event], name: str, label: str) -> None:
    """One quantity of the log against the epoch."""
    known = [event for event in events if name in event]
    axes.plot([event["epoch"] for event in known], [event[name] for event in known], color=BLUE, linewidth=1.6)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(label, loc="left", fontsize=9)
    axes.set_ylim(bottom=0)
