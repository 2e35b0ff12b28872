from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from speechkit.checkpoints.hub import HubId, fetch
from speechkit.errors import ModelError, OutputError

BOTH_FORMS = {
    "config.json": 100,
    "preprocessor_config.json": 10,
    "vocab.json": 10,
    "special_tokens_map.json": 10,
    "model.safetensors": 1000,
    "pytorch_model.bin": 1000,
    "flax_model.msgpack": 1000,
    "README.md": 5,
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub whose repository holds what `hub.files` says; `hub.taken` is what was downloaded."""
    hub = SimpleNamespace(files={}, taken=None, error=None)

    def model_info(self: object, repo: str, *, revision: str, files_metadata: bool) -> Any:
        if hub.error is not None:
            raise hub.error
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=n, size=s) for n, s in hub.files.items()])

    def snapshot_download(repo: str, *, revision: str, allow_patterns: Sequence[str]) -> str:
        hub.taken = sorted(allow_patterns)
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return hub


def test_one_form_of_the_weights_is_downloaded_and_said_before(hub: Any, caplog: pytest.LogCaptureFixture) -> None:
    hub.files = BOTH_FORMS
    with caplog.at_level(logging.WARNING):
        fetch(HubId(repo="a/b"), offline=False)
    assert hub.taken == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "special_tokens_map.json",
        "vocab.json",
    ]
    assert "downloading a/b, 0.00 GB" in caplog.text


def test_shards_come_with_their_index_and_a_pickle_only_where_there_is_nothing_else(hub: Any) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": 10 for i in (1, 2)}
    hub.files = {"config.json": 1, "model.safetensors.index.json": 5, **shards, "pytorch_model.bin": 20}
    fetch(HubId(repo="a/b"), offline=False)
    assert hub.taken == ["config.json", *sorted(shards), "model.safetensors.index.json"]
    hub.files = {"config.json": 1, "pytorch_model.bin": 20}
    fetch(HubId(repo="a/b"), offline=False)
    assert hub.taken == ["config.json", "pytorch_model.bin"]


def test_a_download_that_does_not_fit_is_not_begun(hub: Any) -> None:
    hub.files = {"config.json": 1, "model.safetensors": 10**18}
    with pytest.raises(OutputError, match="GB free") as refused:
        fetch(HubId(repo="a/b"), offline=False)
    assert "HF_HOME" in refused.value.hint
    assert hub.taken is None


def test_what_the_network_says_becomes_a_model_error(hub: Any) -> None:
    for error in (ConnectionError("no route"), TimeoutError(), huggingface_hub.errors.OfflineModeIsEnabled("off")):
        hub.error = error
        with pytest.raises(ModelError, match="cannot download") as refused:
            fetch(HubId(repo="a/b", revision="v1"), offline=False)
        assert "speechkit models pull a/b@v1" in refused.value.hint


def test_offline_nothing_is_asked(hub: Any) -> None:
    hub.error = AssertionError("asked")
    with pytest.raises(ModelError, match="not in the cache"):
        fetch(HubId(repo="a/b"), offline=True)
