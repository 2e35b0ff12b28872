"""torchaudio on machines where its compiled part does not load, such as the PyPI wheel beside a CPU-only torch."""

from __future__ import annotations

import functools
import logging
import sys
from types import ModuleType

from speechkit.errors import MissingDependency

log = logging.getLogger(__name__)


@functools.cache
def load_torchaudio() -> ModuleType:
    """Import torchaudio; where its compiled part cannot be loaded, with its Python part alone.

    Where it can, nothing is touched. Otherwise `torchaudio` stays usable for everybody in the process: transformers,
    encodec and lhotse import it on their own. What needs the compiled part raises torchaudio's own error.

    Raises:
        MissingDependency: torchaudio cannot be imported either way.
    """
    try:
        import torchaudio
    except OSError as error:  # a library that is there and cannot be loaded; not an ImportError
        return _without_extension(error)
    except RuntimeError as error:  # loaded, and compiled for another CUDA than torch
        if "CUDA" not in str(error):
            raise
        return _without_extension(error)
    return torchaudio


def has_extension() -> bool:
    """Whether torchaudio's compiled part loads here.

    Raises:
        MissingDependency: torchaudio cannot be imported at all.
    """
    extension = getattr(load_torchaudio(), "_extension", None)
    return bool(getattr(extension, "_IS_TORCHAUDIO_EXT_AVAILABLE", False))


def _without_extension(error: Exception) -> ModuleType:
    # the failed import leaves this finished module behind, and importing again takes `_load_lib` from it; False is
    # torchaudio's own word for a build without compiled parts
    loader = sys.modules.get("torchaudio._extension.utils")
    if loader is None or not hasattr(loader, "_load_lib"):
        raise MissingDependency(
            f"torchaudio cannot be loaded: {error}",
            hint="install the CPU build of torchaudio that matches torch: "
            "pip install torchaudio --index-url https://download.pytorch.org/whl/cpu",
            code="dependency.torchaudio",
        ) from error
    loader._load_lib = lambda _: False  # type: ignore[attr-defined]
    import torchaudio

    reason = str(error.__cause__ or error)
    log.info("torchaudio's compiled extension is unavailable (%s); using its Python parts", reason)
    return torchaudio
