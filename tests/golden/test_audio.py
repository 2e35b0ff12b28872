"""Goldens of features, rate conversion, levels and augmentation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from speechkit.audio import augment, fbank, mel, mfcc, normalize
from speechkit.audio.fbank import FbankConfig
from speechkit.audio.framing import valid
from speechkit.audio.mel import MelConfig
from speechkit.audio.mfcc import MfccConfig
from speechkit.audio.resample import kernels, resample_array, resample_soxr
from tests.golden.golden import Case, Check

CPU = torch.device("cpu")


def alone(wave: Tensor) -> tuple[Tensor, Tensor]:
    return wave[None], torch.tensor([len(wave)])


# Kaldi filter banks

FBANK_NAMES = {"window_type": "window", "preemphasis_coefficient": "preemphasis", "use_log_fbank": "use_log"}


def is_fbank(case: Case) -> bool:
    return case.has("variants", "common", "sample_frequency")


def check_fbank(case: Case) -> None:
    common = {"sample_rate": case.config["sample_frequency"], **case.config["common"]}
    assert common.pop("dither") == 0
    for name, matrix in [(n, m) for n, m in case.outputs.items() if n.startswith("mel") and n.endswith("_matrix")]:
        case.expect(name, fbank.mel_bank(FbankConfig(**common, num_mel_bins=len(matrix)), CPU))
    for name in [n for n in case.outputs if n.startswith("povey")]:
        case.expect(name, fbank.window(FbankConfig(**common), CPU))
    for name in sorted(n for n in case.outputs if "." in n):
        wave, variant = name.split(".")
        if "_first" in variant:
            check_first_frames(case, name, FbankConfig(**common))
        else:
            config = fbank_variant(variant, common, case.config["variants"])
            case.expect(name, fbank.fbank(*alone(case.inputs[wave]), config)[0][0])


def fbank_variant(name: str, common: dict[str, Any], variants: dict[str, dict[str, Any]]) -> FbankConfig:
    options = {FBANK_NAMES.get(k, k): v for k, v in variants.get(name, {}).items()}
    if name.endswith("_int16scale"):
        options = {"num_mel_bins": 80, "int16_scale": True}
    if name.endswith("_beats"):
        beats = fbank.PRESETS["beats"]
        options |= {"int16_scale": True, "mean": beats.mean, "std": beats.std}
    return FbankConfig(**{**common, **options})


def check_first_frames(case: Case, name: str, config: FbankConfig) -> None:
    wave, what = name.split(".")
    size = config.window_samples
    frames = case.inputs[wave].unfold(0, size, config.shift_samples)[: len(case.outputs[name])]
    windowed = fbank.windowed_frames(fbank.centered_frames(frames, config), config)
    case.expect(name, fbank.spectrum(windowed, config) if what.startswith("power") else windowed)


# MFCC


def is_mfcc(case: Case) -> bool:
    return case.has("num_ceps", "cepstral_lifter", "delta_win_length")


def check_mfcc(case: Case) -> None:
    bins, ceps, lifter = (case.config[k] for k in ("num_mel_bins", "num_ceps", "cepstral_lifter"))
    assert case.config["delta_win_length"] == 5
    filters = FbankConfig(num_mel_bins=bins)
    plain = MfccConfig(fbank=filters, num_ceps=ceps, cepstral_lifter=lifter)
    energy = MfccConfig(fbank=filters, num_ceps=ceps, cepstral_lifter=lifter, use_energy=True)
    wide = FbankConfig(num_mel_bins=40, high_freq=-400.0, snip_edges=False, int16_scale=True)
    features = {
        f"mfcc{ceps}": lambda *wave: mfcc.mfcc(*wave, plain),
        f"mfcc{ceps}_energy": lambda *wave: mfcc.mfcc(*wave, energy),
        "mfcc20_int16_nosnip": lambda *wave: mfcc.mfcc(*wave, MfccConfig(fbank=wide, num_ceps=20, cepstral_lifter=22)),
        "hubert39": mfcc.hubert_mfcc,
        "superb_fbank240": mfcc.superb_fbank,
    }
    case.expect(f"dct_{bins}x{ceps}", mfcc.dct(bins, ceps))
    case.expect(f"lifter{ceps}", mfcc.lifter(ceps, lifter))
    for name in [n for n in case.outputs if "." in n]:
        wave, feature = name.split(".")
        case.expect(name, features[feature](*alone(case.inputs[wave]))[0][0])


# Mel spectrograms


def is_speech_mel(case: Case) -> bool:
    return case.has("speecht5", "hifigan_22k", "librosa_mel_db")


def check_speech_mel(case: Case) -> None:
    speecht5 = mel_config(case.config["speecht5"], mel.PRESETS["speecht5"])
    hifigan = mel_config(case.config["hifigan_22k"], mel.PRESETS["hifigan"])
    sizes = {MEL_NAMES[k]: v for k, v in case.config["librosa_mel_db"].items()}
    decibels = mel.librosa_config(sample_rate=16_000, **sizes)
    configs = {
        "speecht5_hf": speecht5,
        "speecht5_librosa": speecht5,
        "hifigan_22k": hifigan,
        "librosa_mel_db": decibels,
    }
    for name in [n for n in case.outputs if "." in n]:
        wave, feature = name.split(".")
        case.expect(name, mel.log_mel(*alone(case.inputs[wave]), configs[feature])[0][0])
    for name in [n for n in case.outputs if n.startswith("mel_")]:
        config = mel_config({"scale": "htk"}, speecht5) if "htk" in name else speecht5
        bank = mel.mel_bank(config, CPU)
        case.expect(name, bank if case.outputs[name].shape == bank.shape else bank.T)


MEL_NAMES = {
    "rate": "sample_rate",
    "n_fft": "n_fft",
    "win": "win_samples",
    "hop": "hop_samples",
    "mels": "num_mel_bins",
    "fmin": "low_hz",
    "fmax": "high_hz",
    "scale": "scale",
    "log": "log",
    "floor": "floor",
    "clip": "floor",
    "power": "power",
}


def mel_config(stored: dict[str, Any], preset: MelConfig) -> MelConfig:
    """The preset, with every number that the case states."""
    return replace(preset, **{MEL_NAMES[k]: v for k, v in stored.items() if k in MEL_NAMES})


def is_codec_mel(case: Case) -> bool:
    return case.has("vocos", "codec")


def check_codec_mel(case: Case) -> None:
    vocos = mel_config(case.config["vocos"], mel.PRESETS["vocos"])
    codec = case.config["codec"]
    for name in [n for n in case.outputs if "." in n]:
        wave, feature = name.split(".")
        config = vocos
        if feature.startswith("codec_"):
            n_fft = int(feature.rpartition("_")[2])
            assert n_fft in codec["scales"]
            config = mel.codec_config(n_fft, log="_log_" in feature, sample_rate=codec["rate"])
            assert (config.num_mel_bins, config.low_hz) == (codec["mels"], codec["f_min"])
        case.expect(name, mel.log_mel(*alone(case.inputs[wave]), config)[0][0])
    for name in [n for n in case.outputs if n.startswith("mel_vocos")]:
        case.expect(name, mel.mel_bank(vocos, CPU).T)


# Rate conversion


def is_resample(case: Case) -> bool:
    return case.has("pairs", "sinc_hann")


def check_resample(case: Case) -> None:
    for name in [n for n in case.outputs if n.startswith("kernel_")]:
        old, new = (int(x) for x in name.split("_")[1:])
        case.expect(name, kernels(old, new, "hann", CPU)[None])
    for name in [n for n in case.outputs if "." in n]:
        pair, kind = name.split(".")
        old, new = (int(x) for x in pair.split("_"))
        wave = case.inputs[pair].numpy()
        match kind:
            case "sinc_hann":
                converted = resample_array(wave, old, new)
            case "sinc_hann_64":
                converted = resample_array(wave, old, new, kind="kaiser64")
            case "soxr_hq":
                converted = resample_soxr(wave, old, new)
            case "soxr_vhq":
                converted = resample_soxr(wave, old, new, quality="VHQ")
            case _:
                raise AssertionError(f"{name}: unknown resampler")
        case.expect(name, converted)


# Levels


def is_level(case: Case) -> bool:
    return case.has("target_dbfs", "eps")


def check_level(case: Case) -> None:
    for name, wave in case.inputs.items():
        scaled = normalize.set_rms(*alone(wave), dbfs=case.config["target_dbfs"], eps=case.config["eps"])
        case.expect(name, scaled[0])
        case.expect(f"{name}.rms", normalize.rms(*alone(wave)))


def is_waveform_norm(case: Case) -> bool:
    return case.has("hf_eps", "layer_norm_eps")


def check_waveform_norm(case: Case) -> None:
    eps = {"hf": case.config["hf_eps"], "layer_norm": case.config["layer_norm_eps"]}
    names = sorted(case.inputs)
    lengths = torch.tensor([len(case.inputs[n]) for n in names])
    padded = torch.nn.utils.rnn.pad_sequence([case.inputs[n] for n in names], batch_first=True)
    case.expect("batch.hf", normalize.normalize(padded, lengths, eps["hf"]))
    case.expect("batch.attention_mask", valid(lengths, padded.shape[1], CPU).long())
    for name in [n for n in case.outputs if not n.startswith("batch.")]:
        wave, form = name.split(".")
        case.expect(name, normalize.normalize(*alone(case.inputs[wave]), eps[form])[0])


# Augmentation


def is_specaugment(case: Case) -> bool:
    return case.has("freq_masks", "time_masks", "warp_features")


def check_specaugment(case: Case) -> None:
    given = case.inputs
    masks = {"freq_masks": given["freq_masks"], "time_masks": given["time_masks"]}
    case.expect("masked_mean", augment.spec_augment(given["features"], given["lengths"], **masks))
    case.expect("masked_zero", augment.spec_augment(given["features"], given["lengths"], fill=0.0, **masks))
    none = torch.zeros(1, 0, 2, dtype=torch.long)
    warped = augment.spec_augment(
        given["warp_features"][None],
        torch.tensor([len(given["warp_features"])]),
        freq_masks=none,
        time_masks=none,
        warps=given["warp_center_to"][None],
    )
    case.expect("warped", warped[0])


def is_augment(case: Case) -> bool:
    return case.has("rir", "noise", "signal")


def check_augment(case: Case) -> None:
    signal, length = alone(case.inputs["signal"])
    room = alone(case.inputs["rir"])
    rate = case.config["rate"]
    early = round(case.config["early_seconds"] * rate)
    case.equal("peak_index", int(case.inputs["rir"].argmax()), case.config["peak_index"])
    case.expect("reverb_raw", augment.reverberate(signal, length, *room, keep_power=False)[0])
    case.expect("reverb_normalised", augment.reverberate(signal, length, *room)[0])
    case.expect("reverb_early", augment.reverberate(signal, length, *room, early_samples=early)[0])
    for factor in case.config["speeds"]:
        factors = torch.tensor([factor], dtype=torch.float64)
        case.expect(f"speed_{factor}", augment.change_speed(signal, length, factors, rate)[0][0])
    noise = alone(case.inputs["noise"])
    case.expect("noise_gain", augment.noise_gain(signal, length, *noise, case.inputs["snr_db"]))
    noisy = augment.add_noise(signal, length, *noise, case.inputs["noise_offset"], case.inputs["snr_db"])
    case.expect("noisy", noisy[0])


# Padded batches


def is_batch(case: Case) -> bool:
    return case.has("padded", "lengths", "speecht5.attention_mask")


def check_batch(case: Case) -> None:
    waves, lengths = case.inputs["padded"], case.inputs["lengths"]
    case.equal("lengths", lengths.tolist(), case.config["lengths"])
    everything = torch.full_like(lengths, waves.shape[1])
    for name, config in [("kaldi80", FbankConfig()), ("kaldi80_nosnip", FbankConfig(snip_edges=False))]:
        features, counts = fbank.fbank(waves, lengths, config)
        case.expect(name, features)
        case.expect(f"{name}.frames", counts)
        careless = fbank.fbank(waves, everything, config)[0]
        own = valid(counts, features.shape[1], CPU)[..., None]
        case.expect(f"{name}.wrong_if_padded_first", ((careless - features).abs() * own).amax(dim=(1, 2)))
    features, counts = mel.log_mel(waves, lengths, mel.PRESETS["speecht5"])
    case.expect("speecht5", features)
    case.expect("speecht5.attention_mask", valid(counts, features.shape[1], CPU).long())


CHECKS: list[Check] = [
    (is_fbank, check_fbank),
    (is_mfcc, check_mfcc),
    (is_speech_mel, check_speech_mel),
    (is_codec_mel, check_codec_mel),
    (is_resample, check_resample),
    (is_level, check_level),
    (is_waveform_norm, check_waveform_norm),
    (is_specaugment, check_specaugment),
    (is_augment, check_augment),
    (is_batch, check_batch),
]


def test_golden(golden_case: Case) -> None:
    golden_case.run(CHECKS)
