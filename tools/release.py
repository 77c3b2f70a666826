"""Prepare a release: the version and the changelog's section are written, sdist and wheel built, checked and tested.

    python tools/release.py 0.1.0        (or: make release VERSION=0.1.0)

Needs a clean checkout. The built files lie in dist/ afterwards, tested in empty environments (tests/published.py) and
checked by twine. Publishing them is left to a person; the last lines say how. If anything fails, all files are as they
were.
"""

import argparse
import datetime
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSION, CHANGELOG, CITATION = ROOT / "fbwrap" / "version.py", ROOT / "CHANGELOG.md", ROOT / "CITATION.cff"
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


def run(*words: str) -> str:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"{' '.join(words)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def prepare(version: str, date: str) -> list[Path]:
    """Write the version, build, check, test; the built files."""
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        raise ReleaseError(f"{version!r} is no version: write 0.1.0, or 0.2.0rc1.")
    if run("git", "status", "--porcelain").strip():
        raise ReleaseError("The checkout is not clean: commit first.")
    dist = ROOT / "dist"
    if dist.exists() and any(dist.iterdir()):
        raise ReleaseError("dist/ is not empty: remove what lies there.")
    before = {path: path.read_text() for path in (VERSION, CHANGELOG, CITATION)}
    try:
        CHANGELOG.write_text(released(before[CHANGELOG], version, date))
        for path in (VERSION, CITATION):
            path.write_text(with_version(before[path], version, date))
        print(run(sys.executable, "tests/published.py", "constraints.txt", "--keep", str(dist)), end="")
        built = sorted(dist.iterdir())
        print(run(sys.executable, "-m", "twine", "check", "--strict", *map(str, built)), end="")
    except BaseException:
        for path, text in before.items():
            path.write_text(text)
        raise
    return built


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version")
    parser.add_argument("--date", default=datetime.datetime.now(tz=datetime.UTC).date().isoformat())
    options = parser.parse_args()
    try:
        built = prepare(options.version, options.date)
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
