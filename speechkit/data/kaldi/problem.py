"""What a data directory does wrong, by file and line."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Problem:
    """One finding.

    Attributes:
        file: name of the file, relative to the data directory.
        line: counted from 1; 0 means the file as a whole.
        code: E… for an error, W… for a warning.
        message: what is wrong, with both values where two disagree.
        hint: what to do about it.
    """

    file: str
    line: int
    code: str
    message: str
    hint: str = ""

    @property
    def is_warning(self) -> bool:
        """Whether the directory can be used all the same."""
        return self.code.startswith("W")

    def __str__(self) -> str:
        """`FILE:LINE: CODE message; hint`, with bytes that are no text written as escapes."""
        hint = f"; {self.hint}" if self.hint else ""
        return escaped(f"{self.file}:{self.line}: {self.code} {self.message}{hint}")

    def as_json(self) -> dict[str, str | int]:
        """The fields, printable."""
        return {name: escaped(value) if isinstance(value, str) else value for name, value in asdict(self).items()}


def escaped(text: str) -> str:
    """Text that can be printed: bytes that were no UTF-8 appear as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
