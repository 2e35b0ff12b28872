"""The parts that the page is made of, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def section(title: str, *parts: str) -> str:
    """A box with a title; empty where all its parts are."""
    content = "\n".join(part for part in parts if part)
    return f"<section><h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def titled(title: str, content: str) -> str:
    """A part of a section under a title of its own; empty where it is."""
    return f"<h3>{escape(title)}</h3>{content}" if content else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are text; those after the first are set right."""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f"<table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table>" if body else ""


def side_by_side(parts: Iterable[str]) -> str:
    """Pictures or tables in rows, as many as fit."""
    content = "".join(parts)
    return f'<div class="charts">{content}</div>' if content else ""


def folded(title: str, content: str) -> str:
    """What is shown when somebody asks for it."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>" if content else ""
