"""docs/architecture.md says what is there."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def layers() -> list[str]:
    """The layers of setup.cfg, without the name of the package."""
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = settings["importlinter:contract:layers"]["layers"].split("\n")
    return [line.replace("speechkit.", "") for line in lines if line]


def folders() -> set[str]:
    return {path.parent.name for path in (ROOT / "speechkit").glob("*/*.py")}


def test_every_folder_of_the_package_is_in_the_table_and_no_other() -> None:
    table = re.findall(r"^\| `(\w+)/` \|", PAGE, flags=re.MULTILINE)
    assert sorted(table) == sorted(folders())


def test_every_single_file_of_the_package_is_named() -> None:
    files = {path.name for path in (ROOT / "speechkit").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert files == set(re.findall(r"`(\w+\.py)` \(", PAGE))


def test_the_layers_are_those_that_the_linter_enforces() -> None:
    block = re.search(r"^```text\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert block
    assert block[1].splitlines() == layers()
    assert {name for line in layers() for name in line.split(" | ")} >= folders()


def test_every_path_that_the_page_names_is_there() -> None:
    paths = re.findall(r"`(speechkit/[\w/]+\.py)`", PAGE) + re.findall(r"\]\(([\w.]+)\)", PAGE)
    assert len(paths) == 6
    assert [path for path in paths if not (ROOT / path).exists() and not (ROOT / "docs" / path).exists()] == []


@pytest.fixture
def picture() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "docs/architecture.svg").getroot()


def test_the_picture_shows_the_same_layers(picture: ElementTree.Element) -> None:
    svg = "{http://www.w3.org/2000/svg}"
    groups = [g for g in picture.iter(f"{svg}g") if g.get("class") == "layer"]
    assert [g.findtext(f"{svg}text") for g in groups] == layers()


def test_the_picture_has_colors_for_light_and_dark(picture: ElementTree.Element) -> None:
    style = picture.findtext("{http://www.w3.org/2000/svg}style") or ""
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    for selector in (".page", "text {", "text.sub", ".thing rect", ".layer rect", ".outside rect", ".arrow", "#head"):
        assert selector in light, selector
        assert selector in dark, selector
