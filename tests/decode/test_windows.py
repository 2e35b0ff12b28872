from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.decode.windows import WindowSettings, cut

HOP, FIELD = 4, 7


def num_frames(num_samples: int) -> int:
    return max(0, (num_samples - FIELD) // HOP + 1)


def network(samples: np.ndarray, reach: int) -> np.ndarray:
    """A number a frame that depends on all samples of the frames up to `reach` on both sides."""
    frames = np.array(
        [samples[f * HOP : f * HOP + FIELD] @ np.arange(1, FIELD + 1) for f in range(num_frames(len(samples)))]
    )
    padded = np.pad(frames, reach)
    return sum((k + 2) * padded[k : k + len(frames)] for k in range(2 * reach + 1))


@given(st.data())
def test_joined_frames_are_those_of_one_pass_where_the_overlap_covers_the_reach(data: st.DataObject) -> None:
    overlap = data.draw(st.integers(2, 6))
    window = data.draw(st.integers(2 * overlap + 1, 30))
    reach = data.draw(st.integers(0, overlap - 1))
    total = data.draw(st.integers(0, 400))
    samples = np.random.default_rng(total).integers(-9, 9, size=total)
    settings = WindowSettings(hop_samples=HOP, field_samples=FIELD, window_frames=window, overlap_frames=overlap)
    borders = sorted(data.draw(st.lists(st.integers(0, total), max_size=5)))
    kept = []
    for window, inside in cut(np.split(samples, borders), settings):
        assert window.start % HOP == 0
        assert len(inside) == window.num_samples
        kept.append(network(inside, reach)[window.first_frame : window.end_frame])
    np.testing.assert_array_equal(np.concatenate(kept), network(samples, reach))


def test_a_recording_of_one_window_and_less_than_a_frame_more_goes_whole() -> None:
    settings = WindowSettings(hop_samples=HOP, field_samples=FIELD, window_frames=10, overlap_frames=2)
    samples = np.zeros(10 * HOP + FIELD, dtype=np.float32)
    assert len(list(cut([samples[1:]], settings))) == 1
    assert len(list(cut([samples], settings))) == 2


def test_seconds_become_whole_hops() -> None:
    settings = WindowSettings.from_seconds(hop_samples=320, field_samples=400, sample_rate=16000)
    assert (settings.window_frames, settings.overlap_frames) == (2000, 250)
    assert settings.step_samples == 30 * 16000


@pytest.mark.parametrize(("window", "overlap"), [(10, 0), (10, 5), (10, 6)])
def test_an_overlap_that_leaves_nothing_to_keep_is_refused(window: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        WindowSettings(hop_samples=HOP, field_samples=FIELD, window_frames=window, overlap_frames=overlap)
