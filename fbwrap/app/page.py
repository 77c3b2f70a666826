"""The interactive page, with gradio: AFL's interface and more. What it shows comes from :mod:`fbwrap.app.studio`.

Examples:
    >>> serve(loop, "head", None, 7860, print)                                       # doctest: +SKIP

The page is served to this machine alone, and asks nothing of any other.
"""

import errno
import os
import random
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fbwrap.errors import FbwrapError, SettingError
from fbwrap.loop import FeedbackLoop

from .studio import Setting, Studio

if TYPE_CHECKING:
    import gradio as gr

MOST_STEPS = 6


def serve(
    loop: FeedbackLoop,
    head: str,
    span: tuple[float, float] | None,
    port: int,
    ready: Callable[[str], None],
) -> None:
    """Serve the page until Ctrl-C (or SIGTERM).

    Args:
        port: 0 for any that is free.
        ready: called with the page's address once it is there.

    Raises:
        SettingError: the port is in use.
    """
    _check_free(port)
    page = build(Studio(loop, head, span))
    _, address, _ = page.launch(
        server_name="127.0.0.1", server_port=port or _any_port(), share=False, quiet=True, prevent_thread_lock=True,
        inbrowser=False, ssr_mode=False, theme=theme(), footer_links=[],
    )  # fmt: skip
    done = threading.Event()
    before = {each: signal.signal(each, lambda *_: done.set()) for each in (signal.SIGINT, signal.SIGTERM)}
    ready(address)
    try:
        while not done.wait(0.5):
            pass
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        page.close(verbose=False)


def build(studio: Studio) -> "gr.Blocks":
    """The page of a studio, as gradio ``Blocks``."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio as gr

    folder = Path(studio.head)
    name = "/".join(folder.resolve().parts[-2:]) if folder.is_dir() else studio.head
    with gr.Blocks(title=f"fbwrap · {name}", analytics_enabled=False) as page:
        gr.Markdown(
            f"## {name}\n{len(studio.names)} link(s), feedback from D to G. Everything runs here. "
            f"{studio.about_latents()}"
        )
        with gr.Row():
            with gr.Column(scale=1):
                controls = _controls(studio)
            with gr.Column(scale=3):
                views = _views()
        _connect(studio, page, controls, views)
    return page


@dataclass(frozen=True)
class Controls:
    """What is set on the page: a setting's fields, and buttons."""

    strength: "gr.Slider"
    links: "list[gr.Slider]"
    steps: "gr.Slider"
    seed: "gr.Number"
    samples: "gr.Slider"
    label: "gr.Number"
    keep: "gr.Checkbox"
    again: "gr.Button"
    picture: "gr.Image"
    reference: "gr.Image"
    mask: "gr.ImageEditor"
    fetch: "gr.Button"
    sampler: "gr.Dropdown"
    draw: "gr.Button"

    def setting(self) -> "list[gr.components.Component]":
        """Those that a setting is read from, in the order of :func:`_setting`."""
        named = [
            self.strength,
            self.steps,
            self.seed,
            self.samples,
            self.label,
            self.picture,
            self.reference,
            self.mask,
        ]
        return [*named, *self.links]


@dataclass(frozen=True)
class Views:
    """What is shown on the page."""

    status: "gr.Markdown"
    base: "gr.Image"
    feedback: "gr.Image"
    difference: "gr.Image"
    answers: "gr.Image"
    answered: "gr.Markdown"
    show: "gr.Button"
    gallery: "gr.Image"
    strengths: "gr.Markdown"
    sampled: "gr.Image"
    noted: "gr.Markdown"
    as_code: "gr.Button"
    as_head: "gr.Button"
    code: "gr.Code"
    file: "gr.File"


def _controls(studio: Studio) -> Controls:
    import gradio as gr

    start, latent = studio.start(), not studio.takes_pictures
    strength = gr.Slider(
        *_range(start.strength), start.strength, step=0.05, label="strength α of all", elem_id="strength"
    )  # fmt: skip
    links = [
        gr.Slider(*_range(alpha), alpha, step=0.05, label=f"α of {target}", elem_id=f"link{i}")
        for i, (target, alpha) in enumerate(zip(studio.names, start.links, strict=True))
    ]
    steps = gr.Slider(0, max(MOST_STEPS, start.steps), start.steps, step=1, label="steps T", elem_id="steps")
    with gr.Row(visible=latent):
        seed = gr.Number(0, label="seed", precision=0, minimum=0, maximum=2**32, elem_id="seed")
        samples = gr.Slider(1, 16, 4, step=1, label="samples", elem_id="samples")
    label = gr.Number(0, label="class", precision=0, minimum=0, visible=studio.takes_labels)
    keep = gr.Checkbox(True, label="keep this latent", visible=latent, elem_id="keep")
    again = gr.Button("New latents", visible=latent, elem_id="again")
    picture = gr.Image(label="G's input", type="numpy", visible=not latent, elem_id="picture")
    with gr.Accordion("Reference: what D looks at in place of the sample", open=False, elem_id="refbox"):
        reference = gr.Image(label="reference", type="numpy", elem_id="reference")
    with gr.Accordion("Mask: paint where corrections may act", open=False, elem_id="maskbox"):
        mask = gr.ImageEditor(
            label="mask", type="numpy", image_mode="RGBA", sources=(), transforms=(), elem_id="mask",
            brush=gr.Brush(colors=["#d62728"], color_mode="fixed"), layers=False,
        )  # fmt: skip
        fetch = gr.Button("Put the base sample there to paint on", elem_id="fetch")
    with gr.Accordion("Samplers: other ways in which D chooses or moves samples", open=False, elem_id="samplerbox"):
        sampler = gr.Dropdown(studio.samplers(), label="sampler", elem_id="sampler")
        draw = gr.Button("Sample with it, at this strength", elem_id="draw")
    fields = (strength, links, steps, seed, samples, label, keep, again, picture, reference, mask, fetch)
    return Controls(*fields, sampler, draw)


def _views() -> Views:
    import gradio as gr

    def image(label: str, name: str) -> gr.Image:
        return gr.Image(label=label, format="png", elem_id=name, interactive=False)

    status = gr.Markdown(elem_id="status")
    base, feedback = image("base", "base"), image("with feedback", "feedback")
    difference = image("difference", "difference")
    answers = image("D's response, a row a step: red is fake", "responses")
    answered = gr.Markdown(elem_id="answered")
    show = gr.Button("Gallery over strengths", elem_id="show")
    gallery = image("a row a strength", "gallery")
    strengths = gr.Markdown(elem_id="strengths")
    sampled, noted = image("with the sampler", "sampled"), gr.Markdown(elem_id="noted")
    with gr.Row():
        as_code = gr.Button("This setting as code", elem_id="ascode")
        as_head = gr.Button("Its strengths and steps as a head", elem_id="ashead")
    code = gr.Code(language="python", label="code", elem_id="code")
    file = gr.File(label="head", elem_id="file")
    shown = (base, feedback, difference, answers, answered)
    return Views(status, *shown, show, gallery, strengths, sampled, noted, as_code, as_head, code, file)


def _connect(studio: Studio, page: "gr.Blocks", controls: Controls, views: Views) -> None:
    """What happens when a control changes or a button is pressed."""
    import gradio as gr

    def on_setting(work: Callable[[Setting], object]) -> Callable[..., object]:
        """The work on the page's setting; what goes wrong is said on the page."""

        def run(*values: object) -> object:
            try:
                return work(_setting(*values))
            except FbwrapError as error:
                raise gr.Error(str(error), duration=None) from error
            except Exception as error:  # G, D or a module of the user's can fail in any way
                raise gr.Error(f"{type(error).__name__}: {error}", duration=None) from error

        return run

    def on_sampler(work: Callable[[str, Setting], object]) -> Callable[..., object]:
        return lambda name, *values: on_setting(lambda now: work(name, now))(*values)

    def shown(now: Setting) -> tuple[object, ...]:
        if studio.takes_pictures and now.picture is None:
            return None, None, None, None, "", "Upload a picture."
        view = studio.view(now)
        return view.base, view.feedback, view.difference, *_stacked(view.responses), view.status

    def fresh(kept: bool, number: int) -> int:
        return number if kept else random.randrange(1 << 20)  # noqa: S311 -- a seed to look at

    setting = controls.setting()
    seen = [views.base, views.feedback, views.difference, views.answers, views.answered, views.status]
    for control in setting:
        control.change(  # type: ignore[attr-defined] # made by gradio at run time
            on_setting(shown), setting, seen, show_progress="hidden", trigger_mode="always_last", queue=True
        )
    page.load(on_setting(shown), setting, seen, show_progress="hidden")
    controls.again.click(lambda: random.randrange(1 << 20), None, controls.seed)  # noqa: S311
    for control in (controls.strength, controls.steps, *controls.links):
        control.release(fresh, [controls.keep, controls.seed], controls.seed, show_progress="hidden")
    views.show.click(on_setting(lambda now: _stacked(studio.gallery(now))), setting, [views.gallery, views.strengths])
    controls.draw.click(
        on_sampler(studio.sampled), [controls.sampler, *setting], [views.sampled, views.noted], concurrency_limit=1
    )
    views.as_code.click(on_setting(studio.code), setting, views.code)
    views.as_head.click(on_setting(lambda now: str(studio.export(now))), setting, views.file)
    controls.fetch.click(on_setting(studio.canvas), setting, controls.mask)


def _setting(*values: Any) -> Setting:
    alpha, t, number, many, kind, image, seen, painted, *alphas = values
    return Setting(
        seed=int(number or 0), samples=int(many), label=int(kind or 0), strength=float(alpha),
        links=tuple(map(float, alphas)), steps=int(t), picture=image, reference=seen, mask=_painted(painted),
    )  # fmt: skip


def theme() -> "gr.themes.Base":
    """Gradio's, with the system's fonts: its own come from elsewhere."""
    import gradio as gr

    return gr.themes.Default(font=["ui-sans-serif", "system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def _range(alpha: float) -> tuple[float, float]:
    """What a slider spans: 0 to 2, and the head's own strength."""
    return min(0.0, alpha), max(2.0, alpha)


def _stacked(rows: list[tuple[object, str]]) -> tuple[Any, str]:
    """Rows of samples as one picture, and their names from the top."""
    import numpy as np

    return (np.concatenate([picture for picture, _ in rows]) if rows else None), " · ".join(name for _, name in rows)


def _painted(value: Any) -> Any:
    """Where something was painted in the editor, (H, W); None where nothing was."""
    layers = (value or {}).get("layers") or []
    if not layers:
        return None
    alpha = layers[0][..., 3]
    return alpha > 0 if alpha.any() else None


def _check_free(port: int) -> None:
    try:
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(("127.0.0.1", port))
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
        raise SettingError(f"Port {port} {why}. Pass another one: --port 0 takes any that is free.") from error


def _any_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
