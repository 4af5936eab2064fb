"""Pictures of models that choose tokens on their own: what they say under each objective, and what is mixed up."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sharpseq.analyses import BLUE, FAINT, INK, SOFT, VERMILION, headline, new_figure, plain
from sharpseq.analyses.theory.optimum_pictures import shortened
from sharpseq.analyses.theory.product_study import RESOLVED, ProductRow, ProductStudy

_MOST_PANELS = 4
_LONGEST_NAME = 20
_SWITCH_GAP = 0.09


def product_figure(study: ProductStudy) -> Figure:
    """Draw the outputs under the first objectives, and below them how much is mixed up at each k."""
    rows = study.rows[:_MOST_PANELS]
    figure = new_figure(10.4, 5.4)
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.0, 1.05)).flatten()
    panels = upper.subplots(1, len(rows), squeeze=False)[0]
    for axes, row in zip(panels, rows, strict=True):
        _draw_outputs(axes, row)
    handles = [Patch(color=BLUE, label="occurs in the data"), Patch(color=VERMILION, label="occurs nowhere")]
    upper.legend(handles=handles, loc="outside lower right", ncols=2, frameon=False, fontsize=8.5)
    axes = lower.subplots()
    plain(axes, title="Outputs that occur nowhere, together", x="k   (0 is maximum likelihood)", y="probability")
    _draw_unseen(axes, study, colour=VERMILION)
    # Room above the curve for the names of outputs.
    highest = max(0.1, *study.unseen_mass)
    axes.set_ylim(0, 1.45 * highest)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 1.05 * highest])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10))
    _mark_switches(axes, study)
    first = rows[0]
    title = f"Maximum likelihood gives {_percent(first.unseen_mass)} to outputs that nobody writes; a larger k chooses"
    headline(figure, title)
    return figure


def comparison_figure(pairs: Sequence[tuple[ProductStudy, ProductStudy | None]]) -> Figure:
    """Draw how much CTC mixes up beside a factorised model, one panel a set of outputs.

    Args:
        pairs: CTC, and the factorised model where it can be asked: its outputs must have one length.
    """
    figure = new_figure(3.5 * max(len(pairs), 2), 3.6)
    grid = figure.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
    for axes, (ctc, factorised) in zip(grid, pairs, strict=True):
        plain(axes, title=ctc.name, x="k   (0 is maximum likelihood)")
        if factorised is not None:
            _draw_unseen(axes, factorised, colour=VERMILION, width=5.0, alpha=0.35)
        _draw_unseen(axes, ctc, colour=BLUE)
        data = "\n".join(
            f"{p:.0%}  {shortened(outcome)}" for outcome, p in zip(ctc.outcomes[:4], ctc.p_data[:4], strict=True)
        )
        axes.text(
            0.97, 0.95, data, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=SOFT, parse_math=False
        )
    grid[0].set_ylabel("outputs that occur nowhere, together", fontsize=9, color=SOFT)
    handles = [line for line in grid[0].get_lines() if not line.get_label().startswith("_")]
    grid[-1].legend(handles=handles, frameon=False, fontsize=8.5, loc="center right")
    mixed = [ctc.unseen_mass[0] for ctc, _ in pairs]
    title = f"CTC under maximum likelihood gives {_percent(max(mixed))} to outputs that nobody writes"
    if min(mixed) < RESOLVED < max(mixed):
        title = "CTC mixes words that exclude each other, as a factorised model does, but not a word more or less"
    headline(figure, title)
    return figure


def _draw_outputs(axes: Axes, row: ProductRow) -> None:
    places = range(len(row.outputs))
    colours = [BLUE if output.seen else VERMILION for output in row.outputs]
    axes.barh(places, [output.prob for output in row.outputs], color=colours, height=0.62)
    for place, output in zip(places, row.outputs, strict=True):
        axes.text(output.prob + 0.02, place, _percent(output.prob), va="center", fontsize=7.5, color=SOFT)
    axes.set_yticks(
        places, [shortened(output.text, longest=_LONGEST_NAME) or "(empty)" for output in row.outputs], parse_math=False
    )
    axes.set_ylim(5.5, -0.6)
    axes.set_xlim(0, 1.22)
    is_cramped = any(len(output.text) > _LONGEST_NAME for output in row.outputs)
    plain(axes, title="" if is_cramped else row.objective)
    if is_cramped:  # long outputs leave no room on the right of the axis
        axes.set_title(row.objective, loc="right", fontsize=10, fontweight="bold", color=INK)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)


def _draw_unseen(axes: Axes, study: ProductStudy, *, colour: str, width: float = 2.0, alpha: float = 1.0) -> None:
    axes.plot(study.k, study.unseen_mass, color=colour, linewidth=width, alpha=alpha, label=study.model)
    axes.set_xlim(study.k[0], study.k[-1])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_ylim(0, max(0.55, 1.1 * max(study.unseen_mass)))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(axis="y", color=FAINT, linewidth=0.8)


def _mark_switches(axes: Axes, study: ProductStudy) -> None:
    """Write the most probable output of each range of k above it."""
    edges = [study.k[0], *(switch.k for switch in study.switches), study.k[-1]]
    if study.switches:
        names = [study.switches[0].before, *(switch.after for switch in study.switches)]
    else:
        names = [study.rows[0].outputs[0].text]
    top = axes.get_ylim()[1]
    for switch in study.switches:
        axes.axvline(switch.k, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.text(switch.k, 0.02 * top, f" k = {switch.k:.2f}", fontsize=8, color=SOFT, ha="left")
    for name, low, high in zip(names, edges, edges[1:], strict=False):
        if (high - low) / (edges[-1] - edges[0]) > _SWITCH_GAP:
            text = f"most probable:\n{shortened(name)}"
            axes.text(
                (low + high) / 2, 0.96 * top, text, fontsize=8.5, color=INK, ha="center", va="top", parse_math=False
            )


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"
