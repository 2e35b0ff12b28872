"""The device loader: the same batches however they are made."""

from __future__ import annotations

import itertools
import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from speechkit import draws
from speechkit.audio.fbank import FbankConfig
from speechkit.audio.files import read_int16, save
from speechkit.data.batch import Batch
from speechkit.data.kaldi.utterances import utterances as utterances_of
from speechkit.data.labels import Labels
from speechkit.data.lhotse.shar import SharUtterances, write_shar
from speechkit.data.loader import Loader
from speechkit.data.mixing import UtteranceMixing
from speechkit.data.plan import Plan, PlanSettings, plan_utterances
from speechkit.data.span_mask import SpanSettings
from speechkit.data.staging import tensors
from speechkit.data.transforms import Features, Noise, Normalize, SpanMask, Speed, Transform, Volume
from speechkit.data.utterance import Utterance, read_utterances
from speechkit.errors import InputError, UsageError
from tests.data.corpora import corpus

RATE = 16000
SETTINGS = PlanSettings(batch_seconds=0.5, max_cuts=4)


def num_frames(lengths: Tensor) -> Tensor:
    return lengths // 160


SPANS = SpanSettings(length=3)


def write(folder: Path, id: str, num_samples: int, *, rate: int = RATE) -> Utterance:
    samples = (draws.uniform(draws.words(0, 0, "test", [id], num_samples)[0]) * 20000 - 10000).astype(np.int16)
    path = folder / f"{id}.wav"
    save(path, samples, rate)
    return Utterance(id=id, path=str(path), num_samples=num_samples, sample_rate=rate, text=f"text {id}")


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    return [write(tmp_path, f"u{i:02d}", 1600 + 321 * i) for i in range(14)]


@pytest.fixture
def noises(tmp_path: Path) -> tuple[Utterance, ...]:
    return tuple(write(tmp_path, f"n{i}", 900 + 2700 * i, rate=RATE // (1 + i % 2)) for i in range(3))


def loader_of(
    utterances: Sequence[Utterance], transforms: Sequence[Transform] = (), *, crop: int | None = None, **options: object
) -> Loader:
    plan = plan_utterances(utterances, RATE, SETTINGS, seed=3, max_crop_samples=crop)
    return Loader(utterances, plan, transforms, sample_rate=RATE, **options)  # type: ignore[arg-type]


def some(loader: Loader, num_steps: int = 3, start: int = 0) -> list[Batch]:
    return [b for step in itertools.islice(loader.steps(start), num_steps) for b in step.load()]


def assert_equal(one: Batch, other: Batch) -> None:
    assert (one.ids, one.number, one.epoch) == (other.ids, other.number, other.epoch)
    for name in ("waves", "lengths", "features", "feature_lengths", "weights"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b), name
    for name in ("labels", "label_lengths", "draws"):
        a, b = getattr(one, name), getattr(other, name)
        assert set(a) == set(b)
        assert all(torch.equal(a[k], b[k]) if isinstance(a[k], Tensor) else a[k] == b[k] for k in a), name


@pytest.mark.parametrize("crop", [None, 3000])
def test_batches_from_shar_are_those_from_a_data_directory(tmp_path: Path, crop: int | None) -> None:
    kaldi = utterances_of(corpus(tmp_path), root=tmp_path)
    write_shar(tmp_path / "shar", kaldi, {}, shard_size=3)
    listed, lazy = read_utterances(tmp_path / "shar"), SharUtterances(tmp_path / "shar")
    expected = some(loader_of(kaldi, [Speed()], crop=crop), 6)
    for stored in (listed, lazy):
        for one, other in zip(some(loader_of(stored, [Speed()], crop=crop), 6), expected, strict=True):
            assert_equal(one, other)
    assert {b.epoch for b in expected} > {0}


@pytest.mark.parametrize("workers", [1, 4])
def test_batches_are_the_same_for_any_number_of_reading_processes(
    utterances: list[Utterance], noises: tuple[Utterance, ...], workers: int
) -> None:
    transforms = [
        Normalize(eps=1e-5),
        UtteranceMixing(prob=0.8, noises=noises, noise_prob=0.5, eps=1e-5),
        Noise(utterances=noises),
        Volume(),
        SpanMask(num_frames=num_frames, spans=SPANS),
    ]
    labels = {"units": Labels(values={u.id: list(range(u.num_samples // 320)) for u in utterances}, rate=50)}
    inline = some(loader_of(utterances, transforms, crop=3000, labels=labels), 6)
    ahead = some(loader_of(utterances, transforms, crop=3000, labels=labels, workers=workers, prefetch=2), 6)
    assert len(inline) == len(ahead) == 6
    for one, other in zip(inline, ahead, strict=True):
        assert_equal(one, other)


def test_a_run_that_starts_later_gets_the_same_batches(utterances: list[Utterance]) -> None:
    transforms = [Speed(), UtteranceMixing(prob=0.8), SpanMask(num_frames=num_frames, spans=SPANS)]
    whole = some(loader_of(utterances, transforms, micro_batches=2), 6)
    rest = some(loader_of(utterances, transforms, micro_batches=2), 2, start=4)
    assert [b.number for b in rest] == [8, 9, 10, 11]
    for one, other in zip(whole[8:], rest, strict=True):
        assert_equal(one, other)


def test_waves_are_those_of_the_files_padded_with_zeros(utterances: list[Utterance]) -> None:
    paths = {u.id: u.path for u in utterances}
    for batch in some(loader_of(utterances)):
        assert batch.waves is not None
        assert batch.lengths is not None
        for id, row, length in zip(batch.ids, batch.waves, batch.lengths.tolist(), strict=True):
            samples, _ = read_int16(paths[id])
            assert (row[:length] == torch.from_numpy(samples).float() / 32768).all()
            assert not row[length:].any()


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_share_the_micro_batches_of_a_step(utterances: list[Utterance], workers: int) -> None:
    def batches(rank: int, processes: int) -> list[list[Batch]]:
        loader = loader_of(utterances, micro_batches=4, workers=workers)
        steps = itertools.islice(loader.steps(1, rank, processes), 3)
        return [[*step.load()] for step in steps]

    alone = batches(0, 1)
    shared = [batches(rank, 2) for rank in range(2)]
    for step, expected in enumerate(alone):
        found = [shared[number % 2][step][number // 2] for number in range(4)]
        assert [b.number for b in found] == [b.number for b in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.ids == other.ids
            assert torch.equal(one.waves, other.waves)


def test_headers_of_a_step_hold_what_its_batches_will_have(utterances: list[Utterance]) -> None:
    transforms = [Speed(), SpanMask(num_frames=num_frames, spans=SPANS), Features(config=FbankConfig())]
    values = {u.id: list(range(int(u.id[1:]) + 1)) for u in utterances}
    loader = loader_of(utterances, transforms, micro_batches=3, labels={"tokens": Labels(values=values)})
    for step in itertools.islice(loader.steps(), 4):
        assert [h.waves for h in step.micro_batches] == [None] * 3
        for header, batch in zip(step.micro_batches, step.load(), strict=True):
            assert batch.waves is not None
            assert batch.lengths is not None
            assert batch.waves.shape[1] == int(batch.lengths.max())
            assert_equal(header, replace(batch, waves=None, features=None))


def test_batches_that_are_not_loaded_are_passed_over(utterances: list[Utterance]) -> None:
    loader = loader_of(utterances, micro_batches=3)
    expected = [b.number for b in some(loader, 3)]
    steps = loader.steps()
    next(steps)
    next(next(steps).load())
    assert [b.number for b in next(steps).load()] == expected[6:]


def test_crops_are_as_long_as_the_shortest_row_and_draw_their_start(utterances: list[Utterance]) -> None:
    known = {u.id: u for u in utterances}
    loader = loader_of(utterances, crop=3000)
    starts = set()
    for batch in some(loader, 8):
        assert batch.waves is not None
        assert batch.lengths is not None
        size = min(3000, *(known[id].num_samples for id in batch.ids))
        assert batch.waves.shape == (len(batch.ids), size)
        assert batch.lengths.tolist() == [size] * len(batch.ids)
        for id, row, start in zip(batch.ids, batch.waves, batch.draws["crop"].tolist(), strict=True):
            samples, _ = read_int16(known[id].path)
            assert (row == torch.from_numpy(samples[start : start + size]).float() / 32768).all()
            starts.add(start)
    assert len(starts) > 10
    assert loader.padding == 0


def test_labels_with_a_rate_are_cut_with_the_crops(utterances: list[Utterance]) -> None:
    values = {u.id: list(range(u.num_samples // 320)) for u in utterances}
    for batch in some(loader_of(utterances, crop=3000, labels={"units": Labels(values=values, rate=50)})):
        units = batch.labels["units"]
        assert isinstance(units, Tensor)
        assert batch.lengths is not None
        for row, start in zip(units, batch.draws["crop"].tolist(), strict=True):
            first = round(start / 320)
            assert row.tolist() == list(range(first, first + units.shape[1]))
        assert batch.label_lengths["units"].tolist() == [units.shape[1]] * len(units)


def test_rows_at_other_rates_are_resampled_alike_alone_and_together(tmp_path: Path) -> None:
    rates = [8000, 16000, 11025, 8000]
    mixed = [write(tmp_path, f"m{i}", 1501 + 100 * i, rate=rate) for i, rate in enumerate(rates)]
    together = {}
    for batch in some(loader_of(mixed), 4):
        assert batch.waves is not None
        assert batch.lengths is not None
        for id, row, length in zip(batch.ids, batch.waves, batch.lengths.tolist(), strict=True):
            assert not row[length:].any()
            together[id] = row[:length]
    for utterance in mixed:
        assert len(together[utterance.id]) == -(-utterance.num_samples * RATE // utterance.sample_rate)
        (alone,) = some(loader_of([utterance]), 1)
        assert alone.waves is not None
        torch.testing.assert_close(together[utterance.id], alone.waves[0], rtol=0, atol=1e-6)


def test_crops_at_other_rates_have_the_asked_length(tmp_path: Path) -> None:
    mixed = [write(tmp_path, f"m{i}", 1501 + 100 * i, rate=rate) for i, rate in enumerate([8000, 16000, 11025])]
    for batch in some(loader_of(mixed, crop=1203), 6):
        assert batch.waves is not None
        assert batch.waves.shape[1] == 1203
        assert (batch.waves[:, -1] != 0).all()


def test_a_bad_file_is_silence_with_weight_0_and_listed(utterances: list[Utterance], tmp_path: Path) -> None:
    good = {b.number: b for b in some(loader_of(utterances), 24)}
    Path(utterances[5].path).write_bytes(b"nothing")
    listed = tmp_path / "log" / "bad_cuts.jsonl"
    loader = loader_of(utterances, bad_cuts=listed)
    seen = 0
    for batch in some(loader, 24):
        assert batch.waves is not None
        before = good[batch.number].waves
        assert before is not None
        assert batch.waves.shape == before.shape
        for id, row, other, weight in zip(batch.ids, batch.waves, before, batch.weights.tolist(), strict=True):
            bad = id == utterances[5].id
            seen += bad
            assert weight == (0 if bad else 1)
            assert torch.equal(row, torch.zeros_like(row) if bad else other)
    assert seen > 1
    (entry,) = [json.loads(line) for line in listed.read_text().splitlines()]
    assert entry["id"] == "u05"
    assert entry["path"] == utterances[5].path
    assert entry["error"]
    assert list(loader.bad) == ["u05"]


def test_more_bad_files_than_allowed_stop_the_run(utterances: list[Utterance], tmp_path: Path) -> None:
    for utterance in utterances[:3]:
        Path(utterance.path).unlink()
    loader = loader_of(utterances, max_bad=2, bad_cuts=tmp_path / "bad_cuts.jsonl")
    with pytest.raises(InputError, match="3 of 14 utterances cannot be read, at most 2 may be") as caught:
        some(loader, 20)
    assert caught.value.exit_code == 3
    assert caught.value.message.endswith("bad_cuts.jsonl")


def test_a_bad_noise_adds_nothing(utterances: list[Utterance], noises: tuple[Utterance, ...]) -> None:
    clean = some(loader_of(utterances))
    for noise in noises:
        Path(noise.path).unlink()
    noisy = some(loader_of(utterances, [Noise(utterances=noises, prob=1.0)]))
    for one, other in zip(clean, noisy, strict=True):
        assert one.waves is not None
        assert other.waves is not None
        assert torch.equal(one.waves, other.waves)
        assert other.weights.all()


def test_once_gives_every_utterance_once_with_draws_of_evaluation(utterances: list[Utterance]) -> None:
    loader = loader_of(utterances, [SpanMask(num_frames=num_frames, spans=SPANS)])
    batches = list(loader.once())
    assert sorted(id for b in batches for id in b.ids) == [u.id for u in utterances]
    assert {b.epoch for b in batches} == {draws.EVALUATION}
    for one, other in zip(batches, loader.once(), strict=True):
        assert_equal(one, other)


def test_a_cache_reads_every_file_once(utterances: list[Utterance]) -> None:
    loader = loader_of(utterances, crop=1500, cache=True)
    expected = some(loader_of(utterances, crop=1500), 12)
    some(loader, 12)
    for utterance in utterances:
        Path(utterance.path).unlink()
    for one, other in zip(expected, some(loader, 12), strict=True):
        assert_equal(one, other)


def test_utterances_without_samples_make_empty_rows(tmp_path: Path) -> None:
    short = [replace(write(tmp_path, f"s{i}", 100), num_samples=n) for i, n in enumerate([0, 1, 33])]
    transforms = [Normalize(eps=1e-5), UtteranceMixing(prob=1.0), Volume(), Features(config=FbankConfig())]
    (batch,) = some(loader_of(short, transforms), 1)
    assert batch.waves is not None
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [33, 1, 0]
    assert batch.waves.isfinite().all()
    assert not batch.waves[2].any()


def test_padding_and_waiting_are_measured(utterances: list[Utterance]) -> None:
    loader = loader_of(utterances)
    batches = list(loader.once())
    padded = sum(b.waves.numel() for b in batches if b.waves is not None)
    assert loader.padding == pytest.approx(1 - sum(u.num_samples for u in utterances) / padded)
    assert loader.wait_seconds > 0


class Failing(Transform):
    def __call__(self, batch: Batch) -> Batch:
        raise ZeroDivisionError


def test_an_error_in_the_thread_comes_out_and_no_thread_is_left(utterances: list[Utterance]) -> None:
    with pytest.raises(ZeroDivisionError):
        some(loader_of(utterances, [Failing()]))
    steps = loader_of(utterances).steps()
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("loader")]


def test_batches_are_made_while_the_one_before_is_used(utterances: list[Utterance]) -> None:
    made = threading.Semaphore(0)

    class Counting(Transform):
        def __call__(self, batch: Batch) -> Batch:
            made.release()
            return batch

    steps = loader_of(utterances, [Counting()]).steps()
    for step in itertools.islice(steps, 3):
        (_,) = step.load()
        assert made.acquire(timeout=20)
    assert made.acquire(timeout=20), "nothing was made ahead"


def test_making_batches_leaves_the_number_of_threads_of_training_alone(utterances: list[Utterance]) -> None:
    seen = []

    class Watching(Transform):
        def __call__(self, batch: Batch) -> Batch:
            seen.append(torch.get_num_threads())
            return batch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        some(loader_of(utterances, [Watching()]))
        assert torch.get_num_threads() == 2
        assert set(seen) == {1}
    finally:
        torch.set_num_threads(before)


def test_arguments_that_do_not_fit_are_refused(utterances: list[Utterance]) -> None:
    units = {"units": Labels(values={u.id: [1] for u in utterances}, rate=50)}
    tokens = {"tokens": Labels(values={u.id: [1] for u in utterances})}
    with pytest.raises(UsageError, match="units were made at speed"):
        loader_of(utterances, [Speed()], labels=units)
    with pytest.raises(ValueError, match="tokens belong to whole utterances"):
        loader_of(utterances, crop=1600, labels=tokens)
    with pytest.raises(ValueError, match="cache"):
        loader_of(utterances, cache=True, workers=1)
    with pytest.raises(ValueError, match="other utterances"):
        Loader(utterances[1:], Plan([u.id for u in utterances], [1] * 14, RATE, SETTINGS, 3), sample_rate=RATE)


def test_bad_utterances_are_warned_about_once(utterances: list[Utterance], caplog: pytest.LogCaptureFixture) -> None:
    Path(utterances[5].path).unlink()
    with caplog.at_level(logging.WARNING):
        some(loader_of(utterances), 20)
    assert len([r for r in caplog.records if "u05 cannot be read" in r.message]) == 1


@pytest.mark.gpu
def test_batches_on_cuda_are_those_of_the_cpu(utterances: list[Utterance], noises: tuple[Utterance, ...]) -> None:
    transforms = [
        Normalize(eps=1e-5),
        Speed(),
        UtteranceMixing(prob=0.8, noises=noises, noise_prob=0.5, eps=1e-5),
        Noise(utterances=noises),
        SpanMask(num_frames=num_frames, spans=SPANS),
        Features(config=FbankConfig()),
    ]
    cpu = some(loader_of(utterances, transforms), 30)
    steps = loader_of(utterances, transforms, device="cuda", workers=2).steps()
    for one, step in zip(cpu, steps, strict=False):
        (other,) = step.load()
        torch.ones(1000, 1000, device="cuda").matmul(torch.ones(1000, 1000, device="cuda"))  # keeps the stream busy
        assert other.waves is not None
        assert other.waves.is_cuda
        assert all(t.is_cuda for t in tensors(other))
        torch.testing.assert_close(other.waves.cpu(), one.waves, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(other.features, one.features, rtol=1e-3, atol=1e-3, check_device=False)
        for name, drawn in one.draws.items():
            torch.testing.assert_close(other.draws[name].cpu(), drawn, rtol=1e-5, atol=1e-5)
