"""Goldens of reading, drawing, planning and writing."""

from __future__ import annotations

import numpy as np

from speechkit import draws
from tests.golden import data_audio_read, data_formats, data_kaldi, data_plan
from tests.golden.golden import Case


def is_keyed_draws(case: Case) -> bool:
    return case.has("address_words", "uniform53")


def check_keyed_draws(case: Case) -> None:
    addresses = [(a["seed"], a["epoch"], a["purpose"], a["id"]) for a in case.config["addresses"]]
    num_words = case.outputs["words"].shape[1]
    w = np.concatenate([draws.words(s, e, p, [i], num_words) for s, e, p, i in addresses])
    case.expect("address_words", np.concatenate([draws.address_words(s, e, p, [i]) for s, e, p, i in addresses]))
    case.expect("words", w)
    case.expect("uniform", draws.uniform(w))
    case.expect("uniform53", draws.uniform53(w))
    for name in [n for n in case.outputs if n.startswith("randint_")]:
        case.expect(name, draws.randint(w, int(name.rpartition("_")[2])))
    case.expect("key64_as_int64", draws.key64(w[:, :2])[:, 0].astype(np.int64))
    case.expect("normal", draws.normal(w), atol=case.json["tolerance"]["normal_atol"])
    for name in [n for n in case.outputs if n.startswith("choose_")]:
        k, n = (int(x) for x in name.split("_")[1::2])
        case.expect(name, np.stack([draws.choose(row, k, n) for row in w]))
    shuffled = case.config["shuffle_of_all_distinct_ids"]
    ids = list(dict.fromkeys(i for _, _, _, i in addresses))
    case.equal("shuffle", draws.shuffle(shuffled["seed"], shuffled["epoch"], ids), shuffled["result"])
    for counter, key, output in case.config["philox_known_answers"]:
        words = draws.philox(_words(counter), _words(key))
        case.equal("philox", " ".join(f"{int(x):08x}" for x in words), output)


def _words(text: str) -> draws.Words:
    return np.array([int(x, 16) for x in text.split()], dtype=np.uint64)


CHECKS = [
    (is_keyed_draws, check_keyed_draws),
    *data_audio_read.CHECKS,
    *data_formats.CHECKS,
    *data_kaldi.CHECKS,
    *data_plan.CHECKS,
]


def test_golden(golden_case: Case) -> None:
    golden_case.run(CHECKS)
