"""Libraries that need help to be imported; nothing else in speechkit imports them directly."""

from speechkit.compat.torchaudio import has_extension, load_torchaudio

__all__ = ["has_extension", "load_torchaudio"]
