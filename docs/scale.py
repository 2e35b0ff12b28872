"""The tables of docs/scale.md, from stated assumptions and measured rates: `python docs/scale.py` writes them into it.

Rates are audio hours an hour of one core or GPU. What is assumed stands in `Assumptions` and in the rows below it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).with_name("scale.md")


@dataclass(frozen=True, kw_only=True, slots=True)
class Assumptions:
    """What the tables rest on; change a value and run the script again.

    Attributes:
        hours: of audio.
        cut_seconds: mean length of a cut.
        store_dollars: of object storage, a GB and month.
        get_dollars: of 1,000 GET requests.
        get_bytes: of a request.
        gpu_dollars: of a GPU and hour.
        gpu_flops: peak of dense bfloat16 products.
        utilisation: share of the peak that training reaches.
        frame_rate: frames a second of audio.
        overhead: what the convolutions and attention add to the products with the weights.
        index_bytes: of the index, a cut.
        shard_cuts: of a shard.
    """

    hours: float = 1e6
    cut_seconds: float = 10
    store_dollars: float = 0.023
    get_dollars: float = 0.0004
    get_bytes: float = 8 * 2**20
    gpu_dollars: float = 2.5
    gpu_flops: float = 989e12
    utilisation: float = 0.4
    frame_rate: float = 50
    overhead: float = 1.5
    index_bytes: float = 46
    shard_cuts: int = 5000


@dataclass(frozen=True, slots=True)
class Form:
    """How audio or what was made of it is kept: bytes a second, and times real time at which a core decodes it."""

    name: str
    bytes_per_second: float
    decode_rate: float | None = None


FORMS = (  # speech at 16 kHz; decode rates of one server core
    Form("WAV int16", 32_000, 25_000),
    Form("FLAC", 17_950, 5_300),
    Form("MP3 44k", 5_530, 4_500),
    Form("Opus 28k", 3_525, 770),
    Form("fbank-80 float16", 16_000),
    Form("EnCodec 8 codebooks uint16", 1_200),
    Form("units 50 Hz uint16", 100),
)


@dataclass(frozen=True, slots=True)
class Job:
    """Work of a network: its parameters, and FLOP for each parameter and frame (6: training, 2: inference)."""

    name: str
    parameters: float
    flop: float


JOBS = (
    Job("WavLM Base, training", 94.7e6, 6),
    Job("WavLM Large, training", 316.6e6, 6),
    Job("HuBERT Base, units of every frame", 94.7e6, 2),
)
LLM = ("7B language model that writes 4 tokens a second of speech, 2,500 tokens/s a GPU", 2500 / 4)


def storage(a: Assumptions) -> str:
    """What the audio weighs, costs and takes to decode once."""
    rows = []
    for form in FORMS:
        size = form.bytes_per_second * 3600 * a.hours
        gets = size / a.get_bytes
        cores = f"{a.hours / form.decode_rate:,.0f}" if form.decode_rate else "–"
        month = f"{size / 1e9 * a.store_dollars:,.0f}"
        requests = f"{gets / 1e6:.1f} M (${gets * a.get_dollars / 1e3:.1f})"
        rows.append([form.name, _round(size / 1e12), month, cores, requests])
    return _table(["form", "TB", "$ a month", "core-hours to decode", "GETs of 8 MiB a pass"], rows)


def shards(a: Assumptions) -> str:
    """Shards and their index."""
    cuts = a.hours * 3600 / a.cut_seconds
    rows = []
    for size in (1000, a.shard_cuts):
        seconds = size * a.cut_seconds
        weight = seconds * FORMS[1].bytes_per_second / 1e9
        rows.append([f"{size:,}", f"{cuts / size:,.0f}", f"{weight:.2f}", f"{seconds / 3600:.1f}"])
    table = _table(["cuts a shard", "shards", "GB each (FLAC)", "hours each"], rows)
    return f"{table}\n\nThe index of {cuts:.1e} cuts is {cuts * a.index_bytes / 1e9:.0f} GB."


def compute(a: Assumptions) -> str:
    """What a pass costs on GPUs."""
    rows = []
    for job in JOBS:
        flop = job.flop * job.parameters * a.frame_rate * a.overhead
        rows.append(_pass(job.name, f"{flop:.1e}", a.gpu_flops * a.utilisation / flop, a))
    rows.append(_pass(LLM[0], "–", LLM[1], a))
    return _table(["job", "FLOP a second of audio", "× real time a GPU", "GPU-hours a pass", "$"], rows)


def readers(a: Assumptions, gpus: int = 64) -> str:
    """What training on many GPUs asks of storage and of the cores that decode."""
    flop = JOBS[1].flop * JOBS[1].parameters * a.frame_rate * a.overhead
    rate = gpus * a.gpu_flops * a.utilisation / flop
    rows = [
        [form.name, f"{rate * form.bytes_per_second / 1e9:.1f}", f"{rate / form.decode_rate:.0f}"]
        for form in FORMS
        if form.decode_rate
    ]
    what = f"{gpus} GPUs that train WavLM Large take {rate:,.0f} s of audio a second:"
    return f"{what}\n\n{_table(['form', 'GB/s', 'cores'], rows)}"


def page(text: str, assumptions: Assumptions) -> str:
    """The page with its tables made anew."""
    for table in (storage, shards, compute, readers):
        name = table.__name__
        block = f"<!-- {name} -->\n{table(assumptions)}\n<!-- end -->"
        text, count = re.subn(rf"<!-- {name} -->.*?<!-- end -->", lambda _, b=block: b, text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{PAGE}: {count} places for the table {name!r}")
    return text


def _pass(name: str, flop: str, rate: float, a: Assumptions) -> list[str]:
    hours = a.hours / rate
    return [name, flop, f"{rate:,.0f}", f"{hours:,.0f}", f"{hours * a.gpu_dollars:,.0f}"]


def _round(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("|" + "|".join(row) + "|" for row in [head, ["---"] * len(head), *rows])


if __name__ == "__main__":
    new = page(PAGE.read_text(encoding="utf-8"), Assumptions())
    PAGE.write_text(new, encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
