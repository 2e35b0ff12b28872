"""Pictures of a report: SVG inside the page, drawn by matplotlib without its global state."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from speechkit.metrics.units import Span

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]  # step and value

MAX_POINTS = 2000

_COLORS = ("#2f6db3", "#d1603d", "#3f8f5f", "#8a5fa8")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in a font of the reader's machine
    "svg.hashsalt": "speechkit",
    "font.size": 9,
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
}


def curves(title: str, lines: Mapping[str, Curve]) -> str:
    """Lines over steps, named where there is more than one; an `<img>` element."""
    with _figure(height=2.4) as figure:
        axes = figure.add_subplot(title=title)
        for (name, line), color in zip(lines.items(), _COLORS, strict=False):
            points = thinned(line)
            marker = "o" if len(points) <= 30 else ""
            axes.plot(*zip(*points, strict=True), label=name, color=color, linewidth=1.3, marker=marker, markersize=2.5)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
        if len(lines) > 1:
            axes.legend(frameon=False)
        return _image(figure, f"{title} over steps")


def histogram(title: str, values: Sequence[float], unit: str) -> str:
    """How often values occur; an `<img>` element."""
    with _figure(height=2.0) as figure:
        axes = figure.add_subplot(title=title, xlabel=unit)
        axes.hist(values, bins=min(40, max(5, len(set(values)))), color=_COLORS[0])
        return _image(figure, f"{title}: histogram")


def frequencies(title: str, shares: NDArray[Any], unit: str) -> str:
    """How much of the whole each of several things is, the largest first; an `<img>` element."""
    with _figure(height=2.0) as figure:
        axes = figure.add_subplot(title=title, xlabel=unit)
        axes.stairs(np.sort(shares)[::-1], fill=True, color=_COLORS[0])
        axes.set_xlim(0, len(shares))
        return _image(figure, f"{title}, sorted")


def spectrogram(features: NDArray[Any], seconds: float, words: Sequence[Span], wrong: Sequence[bool]) -> str:
    """A log-mel spectrogram `(F, D)` under the words at their times; an `<img>` element.

    Args:
        features: log energies.
        seconds: that they cover.
        words: with their times.
        wrong: for each of the words, whether to draw it in another color.
    """
    low, high = np.percentile(features, [5, 99.5])
    with _figure(height=1.9, width=8.4) as figure:
        axes = figure.add_subplot(xlabel="seconds", yticks=[])
        extent = (0.0, seconds, 0.0, 1.0)
        axes.imshow(
            features.T, origin="lower", aspect="auto", extent=extent, cmap="Greys", vmin=low, vmax=high,
            interpolation="none",
        )  # fmt: skip
        axes.spines[:].set_visible(False)
        for word, bad in zip(words, wrong, strict=False):
            color = _COLORS[1] if bad else _COLORS[0]
            axes.axvspan(word.start, max(word.end, word.start + seconds / 500), color=color, alpha=0.25, linewidth=0)
            axes.text(
                word.start, 1.02, word.label, color=color, rotation=40, fontsize=8, rotation_mode="anchor",
            )  # fmt: skip
        return _image(figure, "spectrogram with what was recognized")


def thinned(line: Curve) -> Curve:
    """At most `MAX_POINTS` of the points, evenly, the last one among them."""
    stride = -(-len(line) // MAX_POINTS)
    return line[::-1][:: max(1, stride)][::-1]


@contextmanager
def _figure(height: float, width: float = 4.2) -> Iterator[Figure]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def _image(figure: Figure, description: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(description)}" src="data:image/svg+xml;base64,{data}">'
