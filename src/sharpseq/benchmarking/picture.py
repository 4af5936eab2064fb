"""Quality against speed, as a picture: one panel for each batch size."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from sharpseq.analyses import BLUE, SOFT, VERMILION, headline, new_figure, plain, png
from sharpseq.benchmarking.outcome import Outcome
from sharpseq.benchmarking.speeds import BatchSpeed
from sharpseq.evaluation.tables import metric_heading

_PANEL_WIDTH, _HEIGHT = 3.6, 3.8
_LABEL_SIZE = 7


def quality_against_speed(outcome: Outcome) -> bytes:
    """Return a PNG: the first metric with its 95% interval against milliseconds a sentence, from round to round.

    Args:
        outcome: What was found; the systems must have been scored with a metric.
    """
    sizes = [speed.batch_size for speed in outcome.systems[0].speeds]
    metric = next(iter(outcome.systems[0].quality.metrics))
    heading = metric_heading(metric, [each.quality for each in outcome.systems])
    figure = new_figure(_PANEL_WIDTH * len(sizes), _HEIGHT)
    panels = figure.subplots(1, len(sizes), sharex=True, sharey=True, squeeze=False)[0]
    for axes, size in zip(panels, sizes, strict=True):
        plain(axes, title=f"batch {size}", x="ms a sentence (log)", y=heading if axes is panels[0] else "")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.3, y=0.2)
        for each in outcome.systems:
            speed = next(speed for speed in each.speeds if speed.batch_size == size)
            interval = each.quality.intervals[metric]
            _point(
                axes,
                speed,
                score=each.quality.metrics[metric].score,
                interval=(interval.low, interval.high),
                name=each.system.name,
                is_baseline=each.system.name == outcome.baseline,
            )
    conditions = outcome.conditions
    threads = f"{conditions.num_threads} thread{'s' if conditions.num_threads > 1 else ''}"
    headline(figure, f"Quality against speed: up and left is better ({threads}, text to text)")
    return png(figure)


def _point(
    axes: Axes, speed: BatchSpeed, *, score: float, interval: tuple[float, float], name: str, is_baseline: bool
) -> None:
    axes.errorbar(
        [speed.milliseconds],
        [score],
        xerr=[[speed.milliseconds - speed.milliseconds_low], [speed.milliseconds_high - speed.milliseconds]],
        yerr=[[max(score - interval[0], 0)], [max(interval[1] - score, 0)]],
        fmt="D" if is_baseline else "o",
        color=VERMILION if is_baseline else BLUE,
        elinewidth=0.8,
        markersize=5,
    )
    axes.annotate(
        name,
        (speed.milliseconds, score),
        textcoords="offset points",
        xytext=(6, 5),
        fontsize=_LABEL_SIZE,
        color=SOFT,
        parse_math=False,
    )
