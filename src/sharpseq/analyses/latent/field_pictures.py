"""The picture of a two-dimensional latent: tokens as regions, the gradient as arrows, refinements as paths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpseq.analyses import INK, SOFT, VERMILION, new_figure, plain
from sharpseq.analyses.latent.gradient_field import GradientField, Point, TokenField
from sharpseq.analyses.latent.refinement_styles import REFINEMENT_STYLES

# Pale enough for arrows and words to stand on; neighbours differ in lightness as well.
_REGIONS = ("#f3f5f8", "#fdebd2", "#dcecf8", "#e3f3e4", "#f7e1ec", "#fbf7d5", "#e6e0f3", "#e0e4e8")
# A region gets its token's name if it covers at least this share of the plane.
_NAMED_SHARE = 0.02
_MOST_COLUMNS = 4


def field_figure(field: GradientField, *, positions: Sequence[int] | None = None) -> Figure:
    """Draw the plane of each position.

    Args:
        field: What `gradient_field` found.
        positions: Positions to draw, from 1; all when None.

    Raises:
        ValueError: If a position is not there.
    """
    by_position = {plane.position: plane for plane in field.fields}
    wanted = list(by_position) if positions is None else list(positions)
    for position in wanted:
        if position not in by_position:
            raise ValueError(f"`positions` must be from 1 to {len(by_position)}; got {position}")
    columns = min(len(wanted), _MOST_COLUMNS)
    rows = -(-len(wanted) // columns)
    figure = new_figure(3.3 * columns, 3.75 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, position in zip(grid, wanted, strict=False):
        _draw(axes, by_position[position])
    for axes in grid[len(wanted) :]:
        axes.remove()
    handles = _legend(has_reference=by_position[wanted[0]].posterior_mean is not None)
    # Without room for all beside each other, the entries go below each other.
    figure.legend(handles=handles, loc="outside upper left", ncols=2 * columns, frameon=False, fontsize=8)
    return figure


def _draw(axes: Axes, plane: TokenField) -> None:
    horizontal, vertical = np.array(plane.horizontal), np.array(plane.vertical)
    _draw_regions(axes, plane, horizontal, vertical)
    directions = np.array(plane.directions)
    lengths = np.linalg.norm(directions, axis=-1)
    spacing = float(horizontal[1] - horizontal[0])
    longest = float(lengths.max()) or 1.0
    axes.quiver(
        horizontal,
        vertical,
        directions[..., 0],
        directions[..., 1],
        angles="xy",
        scale_units="xy",
        scale=longest / (1.7 * spacing),
        color=SOFT,
        alpha=0.65,
        width=0.004,
        headwidth=3.5,
        pivot="tail",
    )
    # Crosses on top of circles: of two markers in one place, both are seen.
    for name, path in (("learned", plane.learned), ("delta", plane.delta)):
        _draw_path(axes, path, name)
    axes.plot(*plane.prior_mean, marker="*", color="black", markersize=13, markeredgecolor="white", zorder=6)
    if plane.posterior_mean is not None:
        axes.plot(*plane.posterior_mean, marker="s", color=VERMILION, markersize=7.5, markeredgecolor="white", zorder=5)
    names = {"reference": "ref.", "posterior": "post.", "prior": "prior", "delta": "delta", "learned": "learned"}
    read = [f"{names[name]} {token}" for name, token in plane.tokens.items()]
    plain(axes, title=f"Position {plane.position}", x="z₁", y="z₂")
    # Two lines at most: wide panels would push each other apart.
    caption = " · ".join(read[:2]) + "\n" + " · ".join(read[2:])
    axes.text(0, -0.2, caption, transform=axes.transAxes, fontsize=7.5, color=INK, va="top", parse_math=False)
    half = spacing / 2
    axes.set_xlim(horizontal[0] - half, horizontal[-1] + half)
    axes.set_ylim(vertical[0] - half, vertical[-1] + half)
    axes.set_aspect("equal")


def _draw_regions(axes: Axes, plane: TokenField, horizontal: np.ndarray, vertical: np.ndarray) -> None:
    """Colour each region by its token, the largest first, and write the token into it."""
    tokens = np.array(plane.grid_tokens, dtype=object)
    counts: dict[str, int] = {}
    for token in tokens.flatten():
        counts[token] = counts.get(token, 0) + 1
    ranked = sorted(counts, key=lambda token: -counts[token])
    # The last colour is shared by all that are left.
    codes = {token: min(rank, len(_REGIONS) - 1) for rank, token in enumerate(ranked)}
    axes.pcolormesh(
        horizontal,
        vertical,
        np.vectorize(codes.__getitem__)(tokens).astype(float),
        cmap=ListedColormap(_REGIONS),
        vmin=-0.5,
        vmax=len(_REGIONS) - 0.5,
        shading="nearest",
        rasterized=True,
        zorder=0,
    )
    shown = [plane.prior_mean, *plane.delta, *plane.learned, *([plane.posterior_mean] if plane.posterior_mean else [])]
    corner, spacing = np.array([vertical[0], horizontal[0]]), horizontal[1] - horizontal[0]
    obstacles = (np.array(shown)[:, ::-1] - corner) / spacing
    for token in ranked:
        if counts[token] < _NAMED_SHARE * tokens.size:
            break
        row, column = _roomiest_cell(tokens == token, obstacles)
        axes.text(
            horizontal[column],
            vertical[row],
            token,
            fontsize=8.5,
            color=INK,
            ha="center",
            va="center",
            fontweight="bold",
            parse_math=False,
            zorder=3,
            bbox={
                "boxstyle": "round,pad=0.15",
                "facecolor": _REGIONS[codes[token]],
                "edgecolor": "none",
                "alpha": 0.85,
            },
        )


def _roomiest_cell(region: np.ndarray, obstacles: np.ndarray) -> tuple[int, int]:
    """Return row and column of the cell of a region that is farthest from its rim and from what is drawn over it.

    Args:
        region: True inside, shape (G, G).
        obstacles: Rows and columns of what is drawn, as fractions of cells, shape (N, 2).
    """
    framed = np.pad(region, 1)
    outside = np.argwhere(~framed) - 1
    inside = np.argwhere(region)
    barriers = np.concatenate([outside, obstacles])
    distances = np.linalg.norm(inside[:, None, :] - barriers[None, :, :], axis=-1).min(1)
    row, column = inside[distances.argmax()]
    return int(row), int(column)


def _draw_path(axes: Axes, path: Sequence[Point], name: str) -> None:
    """Draw a refinement from the prior mean on; its markers get smaller step by step."""
    colour, marker, _ = REFINEMENT_STYLES[name]
    places = np.array(path)
    axes.plot(places[:, 0], places[:, 1], color=colour, linewidth=1.4, zorder=4)
    for step, (x, y) in enumerate(path[1:]):
        size = max(9.0 - 1.3 * step, 3.5)
        axes.plot(x, y, marker=marker, color=colour, markersize=size, markeredgecolor="white", zorder=5)


def _legend(*, has_reference: bool) -> list[Line2D]:
    def handle(marker: str, colour: str, label: str, size: float = 8) -> Line2D:
        return Line2D([], [], marker=marker, color=colour, markersize=size, linestyle="none", label=label)

    handles = [handle("*", "black", "prior mean, the start", 11)]
    handles += [handle(marker, colour, name) for colour, marker, name in REFINEMENT_STYLES.values()]
    if has_reference:
        handles.append(handle("s", VERMILION, "posterior mean of the reference", 7))
    return handles
