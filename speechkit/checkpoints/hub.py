"""Models of the Hugging Face hub, through its own cache, which other tools share."""

from __future__ import annotations

import fnmatch
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speechkit.errors import ModelError, OutputError

log = logging.getLogger(__name__)

_SETTINGS = ("config.json", "*processor_config.json", "vocab.json", "*token*.json")
_WEIGHTS = (  # the first form that is there is taken
    ("model.safetensors",),
    ("model.safetensors.index.json", "model-*.safetensors"),
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-*.bin"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class HubId:
    """A repository of the hub, at a revision (branch, tag or commit)."""

    repo: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> HubId:
        """Read `owner/name` or `owner/name@revision`.

        Raises:
            ModelError: it is neither.
        """
        repo, _, revision = text.partition("@")
        if repo.count("/") != 1 or not all(repo.split("/")) or (not revision and "@" in text):
            raise ModelError(f"{text!r} is no hub id", hint="write hf:owner/name or hf:owner/name@revision")
        return cls(repo=repo, revision=revision or "main")

    @property
    def command(self) -> str:
        """The command that fetches it into the cache."""
        return f"speechkit models pull {self}"

    def __str__(self) -> str:
        return self.repo if self.revision == "main" else f"{self.repo}@{self.revision}"


def fetch(hub_id: HubId, *, offline: bool) -> Path:
    """The folder of a model in the cache; downloaded when it is not there yet.

    What is cached is used as it is, without asking whether the hub has something newer.

    Raises:
        ModelError: no such model, no network, or not cached and `offline`.
        OutputError: there is no room for it.
    """
    folder = cached(hub_id)
    if folder is not None:
        return folder
    if offline:
        raise ModelError(
            f"{hub_id.repo}@{hub_id.revision}: not in the cache, and offline",
            hint=f"fetch it on a machine with a network: {hub_id.command}",
            code="model.offline",
        )
    return _download(hub_id)


def remove(hub_id: HubId) -> int:
    """Remove a revision from the cache, and what no other revision shares with it; gives the bytes that this frees.

    Raises:
        ModelError: it is not there.
        OutputError: it cannot be removed.
    """
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        raise not_cached(hub_id) from None
    revisions = [v for r in cache.repos if (r.repo_type, r.repo_id) == ("model", hub_id.repo) for v in r.revisions]
    found = next((v for v in revisions if hub_id.revision in (v.commit_hash, *v.refs)), None)
    if found is None:
        raise not_cached(hub_id)
    strategy = cache.delete_revisions(found.commit_hash)
    try:
        strategy.execute()
    except OSError as error:
        raise OutputError(f"{found.snapshot_path}: cannot remove: {error.strerror}", code="output.write") from error
    if found.snapshot_path.exists():  # the hub's client logs what it may not remove
        raise OutputError(f"{found.snapshot_path}: cannot remove", code="output.write")
    return strategy.expected_freed_size


def not_cached(hub_id: HubId) -> ModelError:
    """The error to raise for a model that has to be in the cache and is not."""
    return ModelError(
        f"{hub_id.repo}@{hub_id.revision}: not in the cache", hint=f"fetch it: {hub_id.command}", code="model.missing"
    )


def cached(hub_id: HubId) -> Path | None:
    """The folder of a model in the cache, None when it is not there with all its weights.

    Raises:
        ModelError: it is no hub id.
    """
    from huggingface_hub import try_to_load_from_cache

    try:
        config = try_to_load_from_cache(hub_id.repo, "config.json", revision=hub_id.revision)
    except ValueError as error:
        raise ModelError(f"{hub_id.repo!r} is no hub id: {error}", code="model.missing") from error
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    weights = _weights([p.name for p in folder.iterdir() if p.exists()])
    if not weights:
        return None
    return folder if all((folder / shard).exists() for shard in _shards(folder / weights[0])) else None


def _shards(weights: Path) -> Sequence[str]:
    if not weights.name.endswith(".json"):
        return ()
    from speechkit.checkpoints.weights import read_json  # with torch, which listing models does not wait for

    shards = read_json(weights).get("weight_map")
    return list(map(str, shards.values())) if isinstance(shards, dict) else ()


def _download(hub_id: HubId) -> Path:
    from huggingface_hub import HfApi, constants, errors, snapshot_download

    try:
        info = HfApi().model_info(hub_id.repo, revision=hub_id.revision, files_metadata=True)
        sizes = {s.rfilename: s.size or 0 for s in info.siblings or []}
        wanted = [n for n in sizes if any(fnmatch.fnmatch(n, p) for p in _SETTINGS)] + _weights(list(sizes))
        _announce(hub_id, sum(sizes[n] for n in wanted), Path(constants.HF_HUB_CACHE))
        return Path(snapshot_download(hub_id.repo, revision=hub_id.revision, allow_patterns=wanted))
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{hub_id.repo}: its owners ask you to accept a licence first",
            hint=f"do so on https://huggingface.co/{hub_id.repo} and set HF_TOKEN",
            code="model.gated",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(f"{hub_id.repo}: the hub has no such model", code="model.missing") from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # of whichever HTTP library the hub uses
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{hub_id.repo}@{hub_id.revision}: cannot download: {reason}",
            hint=f"fetch it on a machine with a network: {hub_id.command}",
            code="model.download",
        ) from error


def _weights(names: Sequence[str]) -> list[str]:
    """The names of the weights among those of a repository's files, in its best form."""
    for form in _WEIGHTS:
        if form[0] in names:
            return [form[0], *(n for n in names if fnmatch.filter([n], "".join(form[1:])))]
    return []


def _announce(hub_id: HubId, num_bytes: int, cache: Path) -> None:
    """Say what will be downloaded, and see that there is room for it.

    Raises:
        OutputError: there is not.
    """
    existing = next(p for p in (cache, *cache.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < 1.2 * num_bytes:
        raise OutputError(
            f"{hub_id.repo}: {num_bytes / 1e9:.1f} GB to download, {free / 1e9:.1f} GB free at {existing}",
            hint="free some space, or set HF_HOME to another disk",
            code="output.space",
        )
    log.warning("downloading %s, %.2f GB, to %s", hub_id.repo, num_bytes / 1e9, cache)
