"""Long recordings in overlapping windows, and the joining of their frames.

Window n begins at sample n · (window − 2 · overlap), a multiple of the hop, so that its frames fall on the frames of
one pass. It keeps those that are at least an overlap away from its ends (the first and the last window keep their outer
ones): wherever the overlap covers the network's reach, the kept frames are those of one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW_SECONDS = 40.0
OVERLAP_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A stretch of a recording and which of its frames count.

    Attributes:
        start: first sample.
        num_samples: length.
        first_frame: the first frame kept, counted in the window.
        end_frame: one past the last frame kept; None keeps all to the end.
    """

    start: int
    num_samples: int
    first_frame: int
    end_frame: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowSettings:
    """How recordings are cut, in frames and samples of the network.

    Attributes:
        hop_samples: from one frame to the next.
        field_samples: what one frame sees; a rest shorter than this joins the window before.
        window_frames: length of a window in hops.
        overlap_frames: context on each side.
    """

    hop_samples: int
    field_samples: int
    window_frames: int
    overlap_frames: int

    def __post_init__(self) -> None:
        if not 0 < self.overlap_frames < self.window_frames / 2:
            raise ValueError(f"overlap {self.overlap_frames} must be below half of the window {self.window_frames}")
        if self.field_samples > 2 * self.hop_samples * self.overlap_frames:
            raise ValueError(f"a frame sees {self.field_samples} samples, more than the overlap covers")

    @classmethod
    def from_seconds(
        cls,
        *,
        hop_samples: int,
        field_samples: int,
        sample_rate: int,
        window_seconds: float = WINDOW_SECONDS,
        overlap_seconds: float = OVERLAP_SECONDS,
    ) -> WindowSettings:
        """Settings for a network from lengths in seconds, rounded to whole hops."""
        hops_a_second = sample_rate / hop_samples
        return cls(
            hop_samples=hop_samples,
            field_samples=field_samples,
            window_frames=round(window_seconds * hops_a_second),
            overlap_frames=round(overlap_seconds * hops_a_second),
        )

    @property
    def window_samples(self) -> int:
        """Length of a window."""
        return self.window_frames * self.hop_samples

    @property
    def step_samples(self) -> int:
        """From the start of one window to the next."""
        return (self.window_frames - 2 * self.overlap_frames) * self.hop_samples

    def window(self, number: int, available: int) -> Window | None:
        """Window `number` of a recording of which samples `[0, available)` are there and more may come.

        None where it cannot be decided yet: the rest after it may turn out too short for a window of its own.
        """
        start = number * self.step_samples
        if available < start + self.window_samples + self.field_samples:
            return None
        end_frame = self.window_frames - self.overlap_frames
        return Window(
            start=start,
            num_samples=self.window_samples,
            first_frame=self.overlap_frames if number else 0,
            end_frame=end_frame,
        )

    def last_window(self, number: int, total: int) -> Window:
        """Window `number` as the last one of a recording of `total` samples."""
        start = number * self.step_samples
        first = self.overlap_frames if number else 0
        return Window(start=start, num_samples=total - start, first_frame=first, end_frame=None)


def cut(
    pieces: Iterable[NDArray[np.float32]], settings: WindowSettings
) -> Iterator[tuple[Window, NDArray[np.float32]]]:
    """Cut a recording that comes piece by piece, each float32 `(T,)`, into windows with their samples."""
    held, start, number = np.zeros(0, dtype=np.float32), 0, 0  # held begins at sample `start`
    for piece in pieces:
        held = np.concatenate([held, piece])
        while (window := settings.window(number, start + len(held))) is not None:
            yield window, held[: window.num_samples]
            number += 1
            held, start = held[settings.step_samples :], number * settings.step_samples
    yield settings.last_window(number, start + len(held)), held
