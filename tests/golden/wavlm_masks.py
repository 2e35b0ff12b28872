"""Goldens of what WavLM's loader does: mask spans, utterance mixing, labels of crops. Recorded draws are replayed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechkit.data.labels import cut_labels, pad_labels
from speechkit.data.mixing import Overlap, mix
from speechkit.data.span_mask import SpanSettings, span_mask, span_mask_transformers
from speechkit.objectives.masked_units import frame_labels, labelled_frames
from tests.golden.golden import Case


class Recorded:
    """Numpy's draws as a published program made them, given out in call order; each must be asked for alike."""

    def __init__(self, calls: list[dict[str, Any]]) -> None:
        self._calls = iter(calls)

    def next(self, call: str, *args: Any) -> Any:
        recorded = next(self._calls)
        given = [int(a.removeprefix("array of ")) if str(a).startswith("array of ") else a for a in recorded["args"]]
        assert (recorded["call"], given) == (call, list(args))
        return recorded["value"]

    def rand(self) -> float:
        return float(self.next("rand"))

    def choice(self, items: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        chosen = np.array(self.next("choice", len(items), k), dtype=np.int64)
        assert set(chosen.tolist()) <= set(items.tolist())
        return chosen

    def weighted(self, weights: NDArray[np.float64]) -> int:
        recorded = next(self._calls)
        assert recorded["call"] == "choice"
        np.testing.assert_allclose(recorded["kwargs"]["p"], weights, rtol=1e-12)
        return int(recorded["value"])

    def integers(self, low: int, high: int, count: int) -> NDArray[np.int64]:
        return np.array(self.next("randint", low, high), dtype=np.int64).reshape(count)

    def normal(self, mean: float, std: float, count: int) -> NDArray[np.float64]:
        return np.array(self.next("normal", mean, std)).reshape(count)

    def poisson(self, mean: float, count: int) -> NDArray[np.int64]:
        return np.array(self.next("poisson", mean), dtype=np.int64).reshape(count)

    def finish(self) -> None:
        assert next(self._calls, None) is None, "draws that nothing asked for"


def is_mask_sampler(case: Case) -> bool:
    return case.has("rows", "mask_0")


def check_mask_sampler(case: Case) -> None:
    for i, row in enumerate(case.take("rows")):
        recorded = Recorded(row["draws"])
        sources = [recorded] * len(row["lens"])
        names = {"mask_prob": "prob", "mask_length": "length", "mask_type": "kind", "mask_other": "other"}
        args = {names.get(k, k): v for k, v in row["args"].items()}
        if row["implementation"] == "hf":
            rounding = float(recorded.next("rand", 1)[0])
            mask = span_mask_transformers(row["lens"], row["frames"], SpanSettings(**args), sources, rounding)
        else:
            first = recorded.rand()
            shared = None if row["padding"] else first
            mask = span_mask(row["lens"], row["frames"], SpanSettings(**args, trim=True), sources, shared)
        recorded.finish()
        case.expect(f"mask_{i}", mask)
        case.equal(f"rows[{i}].masked_per_item", mask.sum(1), row["masked_per_item"])


def is_mixing(case: Case) -> bool:
    return case.has("mixing_prob", "noise_pool_int16", "mixed")


def check_mixing(case: Case) -> None:
    pool = case.inputs["noise_pool_int16"].float() / 32768
    noises = [pool[start : start + length] for start, length in case.inputs["noise_segments"].tolist()]
    noise_lengths = torch.tensor([len(n) for n in noises])
    padded = torch.nn.utils.rnn.pad_sequence(noises, batch_first=True)
    source = case.inputs["source"]
    lengths = torch.full((len(source),), source.shape[1])
    overlaps = _recorded_overlaps(case.take("draws"), case.config, noise_lengths.tolist(), *source.shape)
    eps = 1e-5 if case.config["normalize"] else None
    mixed, _ = mix(source, lengths, overlaps, noises=padded, noise_lengths=noise_lengths, eps=eps)
    case.expect("mixed", mixed)


def _recorded_overlaps(
    calls: list[dict[str, Any]], config: dict[str, Any], noise_lengths: list[int], num_rows: int, num_samples: int
) -> list[Overlap]:
    """The calls as the published loop makes them: no ratio is drawn against what is silent."""
    recorded, position = Recorded(calls), 0
    half = num_samples // (2 if config["mixing_max_len"] < 0 else config["mixing_max_len"])

    def draw(call: str, *args: Any) -> Any:
        nonlocal position
        position += 1
        return recorded.next(call, *args)

    def ratio(highest: int) -> float:
        drawn = position < len(calls) and calls[position]["call"] == "uniform"
        return float(draw("uniform", -5, highest)) if drawn else 0.0

    overlaps = []
    for row in range(num_rows):
        if draw("random") >= config["mixing_prob"]:
            continue
        noise = config["mixing_noise"] and draw("random") < config["mixing_noise_prob"]
        num = config["mixing_noise_num"] if noise else config["mixing_num"]
        for other in draw("choice", "noise list" if noise else list(range(num_rows)), num):
            size = noise_lengths[other] if noise else num_samples
            ratio_db = ratio(20) if noise else 0.0
            length = min(draw("randint", 0, half + 1), size)
            other_end = draw("randint", length, size + 1)
            end = draw("randint", length, num_samples + 1)
            ratio_db = ratio_db if noise else ratio(5)
            overlaps.append(
                Overlap(
                    row=row, start=end - length, num_samples=length, other=other, other_start=other_end - length,
                    noise=bool(noise), ratio_db=ratio_db,
                )
            )  # fmt: skip
    recorded.finish()
    return overlaps


def is_label_alignment(case: Case) -> bool:
    return case.has("rows", "pad") and all("audio_starts" in row for row in case.json["rows"])


def check_label_alignment(case: Case) -> None:
    for i, row in enumerate(case.take("rows")):
        rows = [np.arange(count) + 1000 * (k + 1) for k, count in enumerate(row["label_counts"])]
        sizes = [row["audio_size"]] * len(rows)
        cut = cut_labels(rows, row["audio_starts"], sizes, row["label_rate"], 16000, cropped=not row["pad_audio"])
        labels, lengths = pad_labels(cut)
        per_frame = row["label_rate"] * 320 / 16000
        frames = torch.tensor((row["audio_size"] - 400) // 320 + 1)
        kept = labelled_frames(frames, lengths, per_frame).min()
        beyond = torch.arange(labels.shape[1]) >= lengths[:, None]
        collated = labels.masked_fill(beyond, case.config["pad"])
        case.equal(f"rows[{i}].collated", collated.tolist(), row["collated"])
        case.equal(f"rows[{i}].lengths", lengths, row["lengths"])
        case.equal(f"rows[{i}].ntokens", lengths.sum(), row["ntokens"])
        case.equal(f"rows[{i}].frames_before", frames, row["frames_before"])
        case.equal(f"rows[{i}].frames_after", kept, row["frames_after"])
        case.equal(f"rows[{i}].aligned", frame_labels(labels, int(kept), per_frame).tolist(), row["aligned"])


CHECKS = [
    (is_mask_sampler, check_mask_sampler),
    (is_mixing, check_mixing),
    (is_label_alignment, check_label_alignment),
]
