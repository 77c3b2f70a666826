"""The commands that use and share a head: ``sample``, ``export``, ``push``, ``pull``, ``search``, ``ui``.

Examples:
    $ fbwrap sample me/faces-feedback -g nets.py:G -d nets.py:D --weights g.pth
"""

import csv
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fbwrap.errors import SettingError, extra

from .command import Answer, command
from .options import Head, NetworkOptions, Range, Seed
from .sampling import SamplerOptions

logger = logging.getLogger("fbwrap")
app = typer.Typer()

Strength = Annotated[float | None, typer.Option(help="Strength α of the feedback. Default: the head's own.")]
Steps = Annotated[
    int | None, typer.Option(help="Number of feedback steps T; 0: G without feedback. Default: the head's own.", min=0)
]


@command(app)
def sample(
    head: Head,
    networks: NetworkOptions,
    sampler: SamplerOptions,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input", help="A picture, a folder of pictures, or a film (MP4 and others), for a G that takes pictures."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", help="Number of samples, for a G that takes noise.", min=1, max=100_000)
    ] = 16,
    seed: Seed = 0,
    label: Annotated[int | None, typer.Option(help="The class of all samples, for a class-conditional G.")] = None,
    strength: Strength = None,
    steps: Steps = None,
    value_range: Range = None,
    tile: Annotated[
        int | None, typer.Option(help="Cut large pictures into tiles of this side, in pixels of G's input.", min=8)
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            help="How far neighbouring tiles overlap, in pixels of G's input. Default: 32, at most a quarter of a "
            "tile.",
            min=0,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("samples"),
) -> Answer:
    """Make samples with a head: a PNG for each, or one file of tensors, and an overview of the steps.

    Example: fbwrap sample head -g nets.py:G -d nets.py:D --weights g.pth -n 16 --seed 0

    For a folder of pictures, with large ones cut into tiles: fbwrap sample head … --input photos --tile 256. Run the
    same command again to continue after a stop.

    With rejection sampling, which keeps about a quarter of the samples: fbwrap sample head … --with drs --keep 0.25
    --real photos
    """
    from fbwrap.heads.inputs import value_range_of

    from .sample import sample as run
    from .tiles import Tiles

    loop = networks.loop_of(head)
    span = value_range or value_range_of(loop)
    with loop.settings(strength=strength, steps=steps):
        asked = sampler.made(loop, seed, span)
        tiles = None
        if tile is not None:
            tiles = Tiles(tile, min(32, tile // 4) if overlap is None else overlap)
        made = run(loop, out, count=count, seed=seed, label=label, source=source, span=span, sampler=asked, tiles=tiles)
    data: dict[str, Any] = {"files": list(map(str, made.files)), "overview": str(made.overview)}
    if asked is None:
        return Answer(f"{len(made.files)} file(s) in {out}; step by step: {made.overview}", data)
    lines = [f"{len(made.files)} file(s) in {out}; all in one picture: {made.overview}"]
    lines += [str(asked.calibration)] if asked.calibration is not None else []
    if asked.cost is not None:
        lines.append(f"A sample cost {asked.cost:.1f} calls of G.")
    lines += [f"{name}: {value:.4g}" for name, value in asked.diagnostics.items()]
    return Answer("\n".join(lines), {**data, "cost": asked.cost, "diagnostics": asked.diagnostics})


@command(app, name="export")
def export_(
    head: Head,
    networks: NetworkOptions,
    to: Annotated[Path, typer.Option(help="The file to write: .onnx for ONNX Runtime, .pt2 for torch.export.load.")],
    strength: Strength = None,
    steps: Steps = None,
    strength_input: Annotated[
        bool, typer.Option("--strength-input", help="Make the strength α an input of the file. Otherwise it is fixed.")
    ] = False,
    fixed: Annotated[bool, typer.Option("--fixed", help="Fix the batch size (2) and the size of pictures.")] = False,
    ahead_of_time: Annotated[
        bool, typer.Option("--ahead-of-time", help="For .pt2: compile for this machine (needs a C++ compiler).")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the inputs with which the file is checked.")] = 0,
) -> Answer:
    """Write G, D and the head to one file that runs without fbwrap and without the code of G.

    The file is then run and compared with the original networks. If the outputs differ, it is not kept.

    Example: fbwrap export head -g nets.py:G -d nets.py:D --weights g.pth --to loop.onnx
    """
    from .exporting import write

    loop = networks.loop_of(head)
    with loop.settings(strength=strength, steps=steps):
        made = write(
            loop, to, dynamic=not fixed, strength_input=strength_input, ahead_of_time=ahead_of_time, seed=seed
        )  # fmt: skip
        said = f"steps {loop.steps}, strength {'an input' if strength_input else loop.strength}"
    lines = [f"{made.path}: {made.size / 2**20:.1f} MiB, {said}"]
    for name, axes in made.inputs.items():
        lines.append(f"  input {name}: {_open(axes) if name != 'strength' else 'a number'}")
    for check in made.checks:
        shapes = ", ".join("x".join(map(str, shape)) for shape in check.shapes)
        lines.append(
            f"  {shapes}, strength {check.strength:g}: differs from the loop by {check.difference:.1e} at most, "
            f"takes {check.file_seconds / max(check.loop_seconds, 1e-9):.2g} of its time"
        )
    return Answer("\n".join(lines), {**asdict(made), "path": str(made.path)})


def _open(axes: tuple[int, ...]) -> str:
    if not axes:
        return "of one size"
    return f"{'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))} of any size"


@command(app)
def push(
    head: Annotated[Path, typer.Argument(help="The head's folder.")],
    repo: Annotated[str, typer.Argument(help="Repository on the Hub, user/name.")],
    private: Annotated[bool | None, typer.Option(help="Whether a new repository is private.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch to push to.")] = None,
    message: Annotated[str | None, typer.Option(help="Message of the commit.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
    dtype: Annotated[str | None, typer.Option(help="fp16 or bf16: store rounded weights, at half the size.")] = None,
    license: Annotated[str | None, typer.Option(help="Model card: the licence, such as mit or apache-2.0.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Model card: user/name of the generator.")] = None,
    task: Annotated[str, typer.Option(help="Model card: the task, as the Hub names it.")] = "image-to-image",
    dataset: Annotated[str, typer.Option(help="Model card: the data that it was measured on.")] = "the author's data",
    picture: Annotated[
        list[Path] | None, typer.Option(help="Model card: a picture. Can be given several times.")
    ] = None,
) -> Answer:
    """Push a head to the Hugging Face Hub (log in with hf auth login, or set HF_TOKEN).

    Numbers and plots that fbwrap eval and fbwrap study wrote to the head's folder go into the model card.

    Example: fbwrap push runs/faces/head me/faces-feedback --license mit
    """
    from fbwrap.heads.hub import push_folder

    about: dict[str, Any] = {"private": private, "revision": revision, "commit_message": message, "dtype": dtype}
    about |= {"license": license, "base_model": base_model, "task": task, "create_pr": create_pr}
    found = _of_this_head(head)
    plots = [head / "studies" / f"{name}.png" for name in ("strength", "eval") if name in found]
    metrics = _measured(head / "studies" / "eval.csv", dataset) if "eval" in found else []
    address = push_folder(head, repo, metrics=metrics, pictures=[*plots, *(picture or [])], **about)
    return Answer(address, {"commit": address})


def _of_this_head(head: Path) -> list[str]:
    """Studies in the head's folder that were made of the weights that lie there now."""
    from fbwrap.heads.config import FEEDBACK
    from fbwrap.heads.files import path_of, sha256

    now = sha256(path_of(head, FEEDBACK)) if path_of(head, FEEDBACK).is_file() else ""
    found = sorted((head / "studies").glob("*.of"))
    if stale := [path.stem for path in found if path.read_text().strip() != now]:
        logger.warning(
            "The studies %s in %s were made with other weights of this head. They are not uploaded.",
            ", ".join(stale),
            head / "studies",
        )
    return [path.stem for path in found if path.stem not in stale]


def _measured(path: Path, dataset: str) -> list[dict[str, object]]:
    """What ``fbwrap eval`` found for the base and for the head's last step."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[-1] if name not in ("step", "mean", "std")] if rows else []
    return [
        {"name": name, "dataset": dataset, "base": f"{float(rows[0][name]):.4g}", "value": float(rows[-1][name])}
        for name in names
        if rows[0][name] and rows[-1][name]
    ]


@command(app)
def pull(
    repo: Annotated[str, typer.Argument(help="Repository on the Hub, user/name.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use only what is in the cache.")] = False,
) -> Answer:
    """Download a head from the Hugging Face Hub, and print its folder.

    Example: fbwrap pull me/faces-feedback
    """
    from fbwrap.heads.files import config_of
    from fbwrap.heads.hub import pull as pulled

    folder = pulled(repo, revision=revision, local_files_only=offline)
    return Answer(str(folder), {"folder": str(folder), "commit": folder.name, "base": config_of(folder)["base"]})


@command(app)
def search(
    text: Annotated[str | None, typer.Argument(help="Text that is part of the name.")] = None,
    base: Annotated[str | None, typer.Option(help="Only heads of this generator, user/name.")] = None,
    task: Annotated[str | None, typer.Option(help="Only heads for this task, such as image-to-image.")] = None,
    author: Annotated[str | None, typer.Option(help="Only heads of this user or organisation.")] = None,
    limit: Annotated[int, typer.Option(help="Largest number of heads to list.", min=1, max=1000)] = 20,
) -> Answer:
    """List heads on the Hugging Face Hub, the most downloaded first.

    Example: fbwrap search faces --task unconditional-image-generation
    """
    from fbwrap.heads.listing import list_heads

    found = list_heads(text, base=base, task=task, author=author, limit=limit)
    return Answer("\n".join(map(str, found)) or "No head was found.", {"heads": [asdict(head) for head in found]})


@command(app)
def ui(
    head: Head,
    networks: NetworkOptions,
    value_range: Range = None,
    port: Annotated[
        int, typer.Option(help="Port of the page, on this machine only; 0: any free port.", min=0, max=65535)
    ] = 7860,
) -> Answer:
    """Open an interactive page for a head in the browser. Ctrl-C ends it.

    Example: fbwrap ui head -g nets.py:G -d nets.py:D --weights g.pth
    """
    from .page import serve

    loop = networks.loop_of(head)
    try:
        serve(loop, head, value_range, port, lambda address: typer.echo(f"The page: {address}   (Ctrl-C ends it)"))
    except ImportError as error:
        raise SettingError(f"The page needs gradio: {extra('ui')} ({error}).") from error
    return Answer("The page is closed.", {"closed": True})
