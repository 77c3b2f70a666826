"""tools/release.py: what it writes, what it refuses, and that nothing is left half-done."""

import doctest
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def release():
    spec = importlib.util.spec_from_file_location("release_tool", ROOT / "tools" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(release, tmp_path, monkeypatch):
    """A copy of the five files, and commands that are only noted."""
    (tmp_path / "fbwrap").mkdir()
    for name in ("VERSION", "CHANGELOG", "CITATION", "README", "SETUP"):
        path = getattr(release, name)
        copy = tmp_path / path.relative_to(ROOT)
        copy.write_text(path.read_text())
        monkeypatch.setattr(release, name, copy)
    monkeypatch.setattr(release, "ROOT", tmp_path)
    ran = []

    def run(*words):
        ran.append(words)
        if "--keep" in words:
            release.built = {name: (tmp_path / name).read_text() for name in ("README.md", "setup.cfg")}
            (tmp_path / "dist").mkdir()
            (tmp_path / "dist" / "fbwrap.whl").touch()
        return ""

    monkeypatch.setattr(release, "run", run)
    release.ran = ran
    return tmp_path


def test_the_examples_hold(release):
    assert not doctest.testmod(release).failed


def test_a_release_writes_its_version_everywhere(release, checkout):
    assert [path.name for path in release.prepare("0.1.0", "2026-01-31")] == ["fbwrap.whl"]
    assert '__version__ = "0.1.0"\n' in (checkout / "fbwrap" / "version.py").read_text()
    assert "\nversion: 0.1.0\ndate-released: 2026-01-31\n" in (checkout / "CITATION.cff").read_text()
    assert "## Unreleased\n\n## 0.1.0, 2026-01-31\n\n### Added" in (checkout / "CHANGELOG.md").read_text()
    assert [words[1:3] for words in release.ran[1:]] == [("tests/published.py", "constraints.txt"), ("-m", "twine")]


def test_links_lead_to_the_repository_in_what_is_built(release, checkout):
    import configparser
    import re

    before = {name: (checkout / name).read_text() for name in ("README.md", "setup.cfg")}
    release.prepare("0.1.0", "2026-01-31", "https://host/fbwrap/")
    links = re.findall(r"\]\(([^)]+)\)", release.built["README.md"])
    assert len(links) > 20
    assert [link for link in links if not link.startswith("https://")] == []
    assert "](https://host/fbwrap/raw/v0.1.0/docs/images/before_after.png)" in release.built["README.md"]
    told = configparser.ConfigParser()
    told.read_string(release.built["setup.cfg"])
    assert told["metadata"]["url"] == "https://host/fbwrap"
    assert "Source = https://host/fbwrap" in told["metadata"]["project_urls"]
    assert {name: (checkout / name).read_text() for name in before} == before, "in the repository they stay relative"
    assert "\nrepository-code: https://host/fbwrap\n" in (checkout / "CITATION.cff").read_text()


def test_an_address_that_is_none_is_refused(release, checkout):
    with pytest.raises(release.ReleaseError, match="no address"):
        release.prepare("0.1.0", "2026-01-31", "github/fbwrap")


@pytest.mark.parametrize("fails", ["tests/published.py", "twine"])
def test_what_fails_leaves_all_as_it_was(release, checkout, monkeypatch, fails):
    before = {path: path.read_text() for path in checkout.rglob("*") if path.is_file()}
    once = release.run

    def run(*words):
        if fails in words:
            raise release.ReleaseError("it failed")
        return once(*words)

    monkeypatch.setattr(release, "run", run)
    with pytest.raises(release.ReleaseError, match="it failed"):
        release.prepare("0.1.0", "2026-01-31")
    assert {path: path.read_text() for path in before} == before


@pytest.mark.parametrize("version", ["0.1", "v0.1.0", "0.1.0.dev0", "next"])
def test_what_is_no_version_is_refused(release, checkout, version):
    with pytest.raises(release.ReleaseError, match="no version"):
        release.prepare(version, "2026-01-31")


def test_a_version_that_was_released_is_refused(release, checkout):
    release.prepare("0.1.0", "2026-01-31")
    for file in (checkout / "dist").iterdir():
        file.unlink()
    with pytest.raises(release.ReleaseError, match=r"section 0\.1\.0 already"):
        release.prepare("0.1.0", "2026-02-01")
    with pytest.raises(release.ReleaseError, match="Nothing is unreleased"):
        release.prepare("0.1.1", "2026-02-01")


def test_changes_that_are_not_committed_are_refused(release, checkout, monkeypatch):
    monkeypatch.setattr(release, "run", lambda *words: " M README.md\n")
    with pytest.raises(release.ReleaseError, match="not clean"):
        release.prepare("0.1.0", "2026-01-31")


def test_the_citation_names_both_papers():
    text = (ROOT / "CITATION.cff").read_text()
    assert "Adversarial Feedback Loop" in text
    assert "Spatial Feedback for Improving Generative Adversarial Networks" in text
