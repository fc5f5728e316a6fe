"""The papers stay short: words, lines and pictures of README.md, docs/, the bundles' documentation and configs."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
BUNDLE_DOCS = sorted(ROOT.glob("bundles/*/docs/*.md"))
PAPERS = [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *PAGES, *BUNDLE_DOCS]
CONFIGS = sorted(path for path in ROOT.glob("bundles/*/configs/**/*.json") if path.name != "metadata.json")


def words(path):
    return len(path.read_text(encoding="utf-8").split())


def descriptions(config):
    """Every `_desc_`, however deep."""
    if isinstance(config, dict):
        yield from ([config["_desc_"]] if "_desc_" in config else [])
        for value in config.values():
            yield from descriptions(value)
    elif isinstance(config, list):
        for value in config:
            yield from descriptions(value)


def test_readme_has_at_most_450_words_and_its_first_command_within_20_lines():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert words(README) <= 450
    assert lines.index("```bash") + 1 < 20


@pytest.mark.parametrize("path", sorted(ROOT.glob("bundles/*/docs/README.md")), ids=lambda path: path.parts[-3])
def test_documentation_of_a_bundle_has_at_most_600_words(path):
    assert words(path) <= 600


def test_changelog_of_a_version_has_at_most_25_lines():
    versions = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert max(len(version.splitlines()) for version in versions) <= 25


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_line_is_longer_than_120_characters(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [number for number, line in enumerate(lines, 1) if len(line) > 120] == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "bundles")))
def test_description_in_a_config_has_at_most_25_words(path):
    found = list(descriptions(json.loads(path.read_text(encoding="utf-8"))))
    assert found
    assert [text for text in found if len(text.split()) > 25] == []


@pytest.mark.parametrize("path", [README, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_picture_and_link_leads_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    inside = [target for target in targets if target and not target.startswith("http")]
    assert [target for target in inside if not (path.parent / target).exists()] == []


def test_picture_of_the_readme_moves_and_is_small():
    (name,) = re.findall(r"!\[.*?\]\((.+?)\)", README.read_text(encoding="utf-8"))
    assert (ROOT / name).stat().st_size <= 1_500_000
    with Image.open(ROOT / name) as picture:
        assert picture.n_frames > 1


def test_every_picture_of_the_documentation_is_shown():
    """A picture that nobody looks at is one that nobody checks."""
    shown = {
        (path.parent / target).resolve()
        for path in (README, *PAGES)
        for target in re.findall(r"!\[.*?\]\((.+?)\)", path.read_text(encoding="utf-8"))
    }
    pictures = {path.resolve() for suffix in ("gif", "png") for path in (ROOT / "docs").rglob(f"*.{suffix}")}
    assert {path for path in pictures if "_build" not in path.parts} == shown


def test_citation_names_the_version_and_the_article():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    version = re.search(r"^version = (.+)$", (ROOT / "setup.cfg").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert text.startswith("cff-version: 1.2.0\n")
    assert f"\nversion: {version}\n" in text
    assert "arXiv:2507.17779" in text
