"""Prepare a release: the version and the changelog's section are written, sdist and wheel built, checked and tested.

    python tools/release.py 0.1.0 [--repository https://…]
    make release VERSION=0.1.0 [FBWRAP_REPOSITORY=https://…]        (the same)

Needs a clean checkout. The built files lie in dist/ afterwards, tested in empty environments (tests/published.py) and
checked by twine. The repository's address is said here alone: it goes into the package's metadata and CITATION.cff, and
README's links and pictures, as they are built, lead there. Publishing is left to a person; the last lines say how. If
anything fails, all files are as they were.
"""

import argparse
import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSION, CHANGELOG, CITATION = ROOT / "fbwrap" / "version.py", ROOT / "CHANGELOG.md", ROOT / "CITATION.cff"
README, SETUP = ROOT / "README.md", ROOT / "setup.cfg"  # these two change only while it is built
UNRELEASED = "## Unreleased\n"


class ReleaseError(Exception):
    """Why there is no release."""


def released(changelog: str, version: str, date: str) -> str:
    """The changelog with what is unreleased under a version, and nothing under "Unreleased".

    Examples:
        >>> print(released("# Changelog\\n\\n## Unreleased\\n\\n### Added\\n- It.\\n", "0.1.0", "2026-01-31"))
        # Changelog
        <BLANKLINE>
        ## Unreleased
        <BLANKLINE>
        ## 0.1.0, 2026-01-31
        <BLANKLINE>
        ### Added
        - It.
        <BLANKLINE>
    """
    before, found, after = changelog.partition(UNRELEASED)
    if not found:
        raise ReleaseError("CHANGELOG.md has no section 'Unreleased'.")
    if re.search(rf"^## {re.escape(version)}\b", changelog, re.MULTILINE):
        raise ReleaseError(f"CHANGELOG.md has a section {version} already.")
    if not after.partition("\n## ")[0].strip():
        raise ReleaseError("Nothing is unreleased: CHANGELOG.md says nothing under 'Unreleased'.")
    return f"{before}{UNRELEASED}\n## {version}, {date}\n{after}"


def with_version(text: str, version: str, date: str) -> str:
    """version.py or CITATION.cff with another version.

    Examples:
        >>> with_version('__version__ = "0.1.0.dev0"\\n', "0.1.0", "2026-01-31")
        '__version__ = "0.1.0"\\n'
    """
    text = re.sub(r'^__version__ = ".*"$', f'__version__ = "{version}"', text, flags=re.MULTILINE)
    text = re.sub(r"^version: .*$", f"version: {version}", text, flags=re.MULTILINE)
    return re.sub(r"^date-released: .*$", f"date-released: {date}", text, flags=re.MULTILINE)


def with_links(readme: str, repository: str, version: str) -> str:
    """README whose links and pictures work from anywhere.

    Examples:
        >>> with_links("![a](docs/a.png) [b](docs/b.md#c) [d](https://d)", "https://host/fbwrap", "0.1.0")
        '![a](https://host/fbwrap/raw/v0.1.0/docs/a.png) [b](https://host/fbwrap/blob/v0.1.0/docs/b.md#c) [d](https://d)'
    """

    def absolute(found: re.Match[str]) -> str:
        kind = "raw" if found[1] else "blob"
        return f"{found[1]}[{found[2]}]({repository}/{kind}/v{version}/{found[3]})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)]+)\)", absolute, readme)


def with_addresses(setup: str, repository: str) -> str:
    """setup.cfg with the project's addresses."""
    urls = {
        "Source": "",
        "Documentation": "/tree/main/docs",
        "Changelog": "/blob/main/CHANGELOG.md",
        "Issues": "/issues",
    }
    lines = "\n".join(f"    {name} = {repository}{path}" for name, path in urls.items())
    return setup.replace("[metadata]\n", f"[metadata]\nurl = {repository}\nproject_urls =\n{lines}\n", 1)


def with_repository(citation: str, repository: str) -> str:
    """CITATION.cff that says where the code is."""
    citation = re.sub(r"^repository-code: .*\n", "", citation, flags=re.MULTILINE)
    return citation.replace("type: software\n", f"type: software\nrepository-code: {repository}\n", 1)


def run(*words: str) -> str:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"{' '.join(words)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def prepare(version: str, date: str, repository: str = "") -> list[Path]:
    """Write the version, build, check, test; the built files."""
    repository = repository.rstrip("/")
    if repository and not repository.startswith("https://"):
        raise ReleaseError(f"{repository!r} is no address of a repository: write https://….")
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        raise ReleaseError(f"{version!r} is no version: write 0.1.0, or 0.2.0rc1.")
    if run("git", "status", "--porcelain").strip():
        raise ReleaseError("The checkout is not clean: commit first.")
    dist = ROOT / "dist"
    if dist.exists() and any(dist.iterdir()):
        raise ReleaseError("dist/ is not empty: remove what lies there.")
    before = {path: path.read_text() for path in (VERSION, CHANGELOG, CITATION, README, SETUP)}
    try:
        CHANGELOG.write_text(released(before[CHANGELOG], version, date))
        for path in (VERSION, CITATION):
            path.write_text(with_version(before[path], version, date))
        if repository:
            CITATION.write_text(with_repository(CITATION.read_text(), repository))
            README.write_text(with_links(before[README], repository, version))
            SETUP.write_text(with_addresses(before[SETUP], repository))
        print(run(sys.executable, "tests/published.py", "constraints.txt", "--keep", str(dist)), end="")
        built = sorted(dist.iterdir())
        print(run(sys.executable, "-m", "twine", "check", "--strict", *map(str, built)), end="")
    except BaseException:
        for path, text in before.items():
            path.write_text(text)
        raise
    for path in (README, SETUP):
        path.write_text(before[path])
    return built


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version")
    parser.add_argument("--date", default=datetime.datetime.now(tz=datetime.UTC).date().isoformat())
    parser.add_argument("--repository", default=os.environ.get("FBWRAP_REPOSITORY", ""), help="its address")
    options = parser.parse_args()
    if not options.repository:
        print("No address of the repository: README's links will not work on a package's page. Pass --repository.")
    try:
        built = prepare(options.version, options.date, options.repository)
    except ReleaseError as error:
        sys.exit(f"No release: {error}")
    files = " ".join(str(path.relative_to(ROOT)) for path in built)
    print(
        f"\nReady: {files}\nLook at the changes, then publish:\n"
        f'  git commit -am "Release {options.version}" && git tag v{options.version}\n'
        f"  python -m twine upload {files}"
    )


if __name__ == "__main__":
    main()
