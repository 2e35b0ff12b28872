"""Golden of reading audio files: every container and sample type, as float32 and as int16."""

from __future__ import annotations

import numpy as np

from speechkit.audio import files
from speechkit.audio.sndfile import EXACT_INT16
from tests.golden.golden import Case, Check


def is_audio_read(case: Case) -> bool:
    return case.has("files") and any(name.endswith("/float32") for name in case.outputs)


def check_audio_read(case: Case) -> None:
    for name, stated in case.config["files"].items():
        path = case.folder / name
        found = files.info(path)
        case.equal(
            name,
            [found.sample_rate, found.num_samples, found.channels, found.format, found.subtype, found.warning],
            [*(stated[k] for k in ("sampling_rate", "frames", "channels", "format", "subtype")), ""],
        )
        tolerance = case.json["tolerance"]["lossy" if stated["lossy"] else "lossless"]
        atol, rtol = tolerance["atol"], tolerance["rtol"]
        case.expect(f"{name}/float32", files.read(path).samples, atol=atol, rtol=rtol)
        int16 = np.stack([files.read_int16(path, channel=c)[0] for c in range(found.channels)])
        case.expect(f"{name}/int16", int16, atol=np.ceil(atol * 32768), rtol=rtol)
        assert found.subtype not in EXACT_INT16 or stated["naive_int16_read_max_error"] == 0, name


CHECKS: list[Check] = [(is_audio_read, check_audio_read)]
