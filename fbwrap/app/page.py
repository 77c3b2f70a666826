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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fbwrap.errors import FbwrapError, SettingError
from fbwrap.loop import FeedbackLoop

from .page_parts import HOLD, RELEASE, Controls, Views, caption_of, parts
from .studio import Setting, Studio

if TYPE_CHECKING:
    import gradio as gr


# on a phone the controls stand right below the comparison
CSS = """
@media (max-width: 700px) {
  #pictures, #seen { display: contents; }
  #controls { order: 1; }
  #single { order: 2; }
}
"""


class _Held(NamedTuple):
    """What is held as A, on whatever latents, class or input are shown."""

    strength: float
    links: tuple[float, ...]
    steps: int
    reference: Any
    mask: Any


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
        inbrowser=False, ssr_mode=False, theme=theme(), css=CSS, footer_links=[],
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
        gr.Markdown(f"## {name}\nFeedback from the discriminator D to the generator G.")
        controls, views = parts(studio)
        _connect(studio, page, controls, views)
    return page


def _connect(studio: Studio, page: "gr.Blocks", controls: Controls, views: Views) -> None:
    """What happens when a control changes or a button is pressed."""
    import gradio as gr

    def shown(held: _Held | None, now: Setting) -> tuple[object, ...]:
        return _shown(studio, held, now)

    def holding(held: _Held | None, now: Setting) -> tuple[object, ...]:
        fresh = None if held else _Held(now.strength, now.links, now.steps, now.reference, now.mask)
        caption = caption_of((fresh.strength, fresh.steps) if fresh else None)
        return fresh, gr.update(value=RELEASE if fresh else HOLD), caption, *shown(fresh, now)

    start, setting = studio.start(), controls.setting()
    inputs = [controls.held, *setting]
    pictures = [views.pictures, views.compare, views.base, views.feedback, views.difference]
    seen = [*pictures, views.status, views.answers, views.answered]
    for control in setting:
        control.change(  # type: ignore[attr-defined] # made by gradio at run time
            _with_first(shown), inputs, seen, show_progress="hidden", trigger_mode="always_last", queue=True
        )
    page.load(_with_first(shown), inputs, seen, show_progress="hidden")
    controls.hold.click(_with_first(holding), inputs, [controls.held, controls.hold, views.caption, *seen])
    controls.again.click(lambda: random.randrange(1 << 20), None, controls.seed)  # noqa: S311
    controls.off.click(lambda: 0.0, None, controls.strength)
    controls.half.click(lambda: start.strength / 2, None, controls.strength)
    saved = [start.strength, start.steps, *start.links, *(True for _ in controls.switches)]
    controls.reset.click(
        lambda: saved, None, [controls.strength, controls.steps, *controls.links, *controls.switches]
    )  # fmt: skip
    for control in (controls.strength, controls.steps, *controls.links):
        control.release(_seed, [controls.keep, controls.seed], controls.seed, show_progress="hidden")
    views.show.click(
        _on_setting(lambda now: _filled_first(_stacked(studio.gallery(now)))), setting, [views.gallery, views.strengths]
    )
    controls.draw.click(
        _with_first(lambda name, now: _filled_first(studio.sampled(name, now))),
        [controls.sampler, *setting],
        [views.sampled, views.noted],
        concurrency_limit=1,
    )
    views.as_code.click(_on_setting(lambda now: _filled(studio.code(now))), setting, views.code)
    views.as_head.click(_on_setting(lambda now: _filled(str(studio.export(now)))), setting, views.file)
    controls.fetch.click(_on_setting(studio.canvas), setting, controls.mask)


def _on_setting(work: Callable[[Setting], object]) -> Callable[..., object]:
    """The work on the page's setting; what goes wrong is said on the page."""
    import gradio as gr

    def run(*values: object) -> object:
        try:
            return work(_setting(*values))
        except FbwrapError as error:
            raise gr.Error(str(error), duration=None) from error
        except Exception as error:  # G, D or a module of the user's can fail in any way
            raise gr.Error(f"{type(error).__name__}: {error}", duration=None) from error

    return run


def _with_first(work: Callable[[Any, Setting], object]) -> Callable[..., object]:
    """The same with one value before the setting's."""
    return lambda first, *values: _on_setting(lambda now: work(first, now))(*values)


def _shown(studio: Studio, held: _Held | None, now: Setting) -> tuple[object, ...]:
    """The pictures of a setting, beside what is held."""
    import gradio as gr

    if studio.takes_pictures and now.picture is None:
        return gr.update(visible=False), None, None, None, None, "Upload a picture.", _filled(None), ""
    view = studio.view(now)
    left = view.base if held is None else studio.view(replace(now, **held._asdict())).feedback
    responses, said = _stacked(view.responses)
    pictures = ((left, view.feedback), view.base, view.feedback, view.difference)
    told = f"{said} · colours from {view.heat[0]:.3g} (red) to {view.heat[1]:.3g} (blue)"
    return (gr.update(visible=True), *pictures, view.status, _filled(responses), told if said else studio.why_silent())


def _filled(value: object) -> object:
    """A view that is hidden as long as it is empty."""
    import gradio as gr

    return gr.update(value=value, visible=value is not None)


def _filled_first(pair: tuple[object, str]) -> tuple[object, str]:
    """A picture that is hidden as long as it is empty, and its text."""
    return _filled(pair[0]), pair[1]


def _seed(kept: bool, number: int) -> int:
    """The seed that is set, or a new one."""
    return number if kept else random.randrange(1 << 20)  # noqa: S311 -- a seed to look at


def _setting(*values: Any) -> Setting:
    alpha, t, number, many, kind, image, seen, painted, *rest = values
    alphas, switches = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    links = tuple(float(each) if on else 0.0 for each, on in zip(alphas, switches, strict=True))
    return Setting(
        seed=int(number or 0), samples=int(many), label=int(kind or 0), strength=float(alpha), links=links,
        steps=int(t), picture=image, reference=seen, mask=_painted(painted),
    )  # fmt: skip


def theme() -> "gr.themes.Base":
    """Gradio's, with the system's fonts: its own come from elsewhere."""
    import gradio as gr

    return gr.themes.Default(font=["ui-sans-serif", "system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


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
