"""Pictures of a report: SVG inside the page, drawn by matplotlib without its global state."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

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


def thinned(line: Curve) -> Curve:
    """At most `MAX_POINTS` of the points, evenly, the last one among them."""
    stride = -(-len(line) // MAX_POINTS)
    return line[::-1][:: max(1, stride)][::-1]


@contextmanager
def _figure(height: float) -> Iterator[Figure]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(4.2, height), layout="constrained")


def _image(figure: Figure, description: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(description)}" src="data:image/svg+xml;base64,{data}">'
