"""Libraries that need help to be imported; nothing else in speechkit imports them directly."""

from speechkit.compat.torchaudio import load_torchaudio

__all__ = ["load_torchaudio"]
