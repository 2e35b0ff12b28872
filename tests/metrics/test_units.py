from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from speechkit.errors import InputError
from speechkit.metrics.units import Span, entropy, frame_labels, joint_counts, label_ids, read_alignment, unit_quality


def test_purities_and_pnmi_of_a_table_worked_out_by_hand() -> None:
    counts = np.array([[3, 1, 0], [1, 2, 1]])  # 2 phones, 3 units, 8 frames
    quality = unit_quality(counts)
    assert quality.frames == 8
    assert quality.phone_purity == (3 + 2 + 1) / 8  # the commonest phone of each unit
    assert quality.cluster_purity == (3 + 2) / 8  # the commonest unit of each phone
    shared = sum(
        n / 8 * math.log((n / 8) / (0.5 * column / 8)) for n, column in [(3, 4), (1, 3), (1, 4), (2, 3), (1, 1)]
    )
    assert quality.pnmi == pytest.approx(shared / math.log(2), abs=1e-12)


def test_units_that_name_the_phones_are_perfect_and_a_constant_unit_knows_nothing() -> None:
    perfect = unit_quality(np.diag([4, 2, 2]))
    assert (perfect.phone_purity, perfect.cluster_purity) == (1, 1)
    assert perfect.pnmi == pytest.approx(1)
    constant = unit_quality(np.array([[4], [2], [2]]))
    assert (constant.phone_purity, constant.cluster_purity) == (0.5, 1)
    assert constant.pnmi == pytest.approx(0)


def test_splitting_a_unit_raises_phone_purity_and_pnmi_but_lowers_cluster_purity() -> None:
    one = unit_quality(np.array([[6, 2], [2, 6]]))
    split = unit_quality(np.array([[6, 0, 2], [0, 2, 6]]))
    assert split.phone_purity > one.phone_purity
    assert split.pnmi > one.pnmi
    assert unit_quality(np.array([[3, 3, 2], [1, 1, 6]])).cluster_purity < one.cluster_purity


def test_joint_counts_leave_out_unlabeled_frames() -> None:
    counts = joint_counts(np.array([0, -1, 1, 1]), np.array([2, 0, 0, 0]), 2, 3)
    assert counts.tolist() == [[0, 0, 1], [2, 0, 0]]


def test_joint_counts_refuse_frames_that_do_not_pair() -> None:
    with pytest.raises(ValueError, match="3 frames of phones, 2 of units"):
        joint_counts(np.array([0, 1, 1]), np.array([0, 0]), 2, 1)


def test_entropy_of_equal_shares_is_the_logarithm_of_their_number() -> None:
    assert entropy(np.array([5, 5, 0, 5, 5])) == pytest.approx(math.log(4))


def test_a_frame_has_the_label_at_its_middle() -> None:
    spans = [Span(0.0, 0.031, "a"), Span(0.031, 0.05, "b"), Span(0.07, 0.2, "a")]
    ids = {"a": 0, "b": 1}
    # middles at 10, 30, 50, 70, 90 ms
    assert frame_labels(spans, ids, 5, 50.0).tolist() == [0, 0, -1, 0, 0]
    # 5, 15, 25, 35, 45, 55, 65, 75 ms
    assert frame_labels(spans, ids, 8, 100.0).tolist() == [0, 0, 0, 1, 1, -1, -1, 0]


def test_an_alignment_is_read_from_ctm_lines(tmp_path: Path) -> None:
    path = tmp_path / "phones"
    path.write_text("u1 1 0.0 0.5 sil\nu1 1 0.5 0.25 aa\nu2 1 0.0 1.0 aa\n")
    alignment = read_alignment(path)
    assert alignment == {"u1": [Span(0.0, 0.5, "sil"), Span(0.5, 0.75, "aa")], "u2": [Span(0.0, 1.0, "aa")]}
    assert label_ids(alignment) == {"aa": 0, "sil": 1}
    path.write_text("u1 1 0.0 0.5 sil\nu1 1 half 0.25 aa\n")
    with pytest.raises(InputError, match="phones:2"):
        read_alignment(path)
