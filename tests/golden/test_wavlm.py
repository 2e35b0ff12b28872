"""Goldens of WavLM: networks, containers, masks, mixing, losses and schedules."""

from __future__ import annotations

from tests.golden import wavlm_masks, wavlm_network, wavlm_training
from tests.golden.golden import Case

CHECKS = [*wavlm_network.CHECKS, *wavlm_masks.CHECKS, *wavlm_training.CHECKS]


def test_golden(golden_case: Case) -> None:
    golden_case.run(CHECKS)
