"""What stands on the interactive page, and where: pictures first, controls beside them, all else in tabs below.

Examples:
    >>> with gr.Blocks() as page:                                                    # doctest: +SKIP
    ...     controls, views = parts(studio)

On a narrow screen they stand one below the other: the comparison, the controls, the single pictures, the tabs. What has
nothing to show yet is hidden.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .studio import Studio

if TYPE_CHECKING:
    import gradio as gr

MOST_STEPS = 6
HOLD, RELEASE = "Hold this as A, to compare with", "Let A go"
_WIDE, _NARROW = 340, 280  # least widths of the two columns, in pixels


@dataclass(frozen=True)
class Controls:
    """What is set on the page: a setting's fields, and buttons."""

    strength: "gr.Slider"
    links: "list[gr.Slider]"
    switches: "list[gr.Checkbox]"
    steps: "gr.Slider"
    seed: "gr.Number"
    samples: "gr.Slider"
    label: "gr.Number | gr.Dropdown"
    keep: "gr.Checkbox"
    again: "gr.Button"
    off: "gr.Button"
    half: "gr.Button"
    reset: "gr.Button"
    hold: "gr.Button"
    held: "gr.State"
    picture: "gr.Image"
    reference: "gr.Image"
    mask: "gr.ImageEditor"
    fetch: "gr.Button"
    sampler: "gr.Dropdown"
    draw: "gr.Button"

    def setting(self) -> "list[gr.components.Component]":
        """Those that a setting is read from, in the order of the page's ``_setting``."""
        named = [self.strength, self.steps, self.seed, self.samples, self.label]
        return [*named, self.picture, self.reference, self.mask, *self.links, *self.switches]


@dataclass(frozen=True)
class Views:
    """What is shown on the page."""

    pictures: "gr.Column"
    caption: "gr.Markdown"
    compare: "gr.ImageSlider"
    base: "gr.Image"
    feedback: "gr.Image"
    difference: "gr.Image"
    status: "gr.Markdown"
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


def parts(studio: Studio) -> tuple[Controls, Views]:
    """Put everything on the page that is being built."""
    import gradio as gr

    with gr.Row():
        with gr.Column(scale=3, min_width=_WIDE, elem_id="pictures"):
            picture = gr.Image(
                label="G's input", type="numpy", visible=studio.takes_pictures, elem_id="picture", height=220
            )  # fmt: skip
            seen = _pictures(studio)
        with gr.Column(scale=1, min_width=_NARROW, elem_id="controls"):
            fields = _fields(studio)
    with gr.Tabs(elem_id="tabs"):
        with gr.Tab("Response", elem_id="responsetab"):
            gr.Markdown("D's response to the samples, one row for each step. Red is fake, blue is real.")
            answers = _image("D's response", "responses")
            answered = gr.Markdown(elem_id="answered")
        with gr.Tab("Gallery"):
            show = gr.Button("Show these samples at several strengths", elem_id="show")
            gallery = _image("one row for each strength", "gallery", visible=False)
            strengths = gr.Markdown(elem_id="strengths")
        with gr.Tab("Reference"):
            gr.Markdown("D looks at this picture instead of the sample.")
            reference = gr.Image(label="reference", type="numpy", elem_id="reference", height=260)
        with gr.Tab("Mask"):
            gr.Markdown("Paint where corrections may act.")
            fetch = gr.Button("Take the first sample to paint on", elem_id="fetch")
            mask = gr.ImageEditor(
                label="mask", type="numpy", image_mode="RGBA", sources=(), transforms=(), elem_id="mask",
                brush=gr.Brush(colors=["#d62728"], color_mode="fixed"), layers=False,
            )  # fmt: skip
        with gr.Tab("Samplers"):
            gr.Markdown("Other ways in which D chooses or moves samples, at the strength that is set above.")
            sampler = gr.Dropdown(studio.samplers(), label="sampler", elem_id="sampler")
            draw = gr.Button("Sample", elem_id="draw")
            sampled = _image("with the sampler", "sampled", visible=False)
            noted = gr.Markdown(elem_id="noted")
        with gr.Tab("Export"):
            with gr.Row():
                as_code = gr.Button("This setting as code", elem_id="ascode")
                as_head = gr.Button("A head with these strengths and steps", elem_id="ashead")
            code = gr.Code(language="python", label="code", elem_id="code", visible=False)
            file = gr.File(label="head", elem_id="file", visible=False)
    everything: tuple[Any, ...] = (*fields, picture, reference, mask, fetch, sampler, draw)
    tabs: tuple[Any, ...] = (answers, answered, show, gallery, strengths, sampled, noted, as_code, as_head, code, file)
    return Controls(*everything), Views(*seen, *tabs)


def _image(label: str, name: str, visible: bool = True) -> "gr.Image":
    import gradio as gr

    return gr.Image(
        label=label, format="png", elem_id=name, interactive=False, visible=visible, show_label=False,
        buttons=["fullscreen", "download"],
    )  # fmt: skip


def caption_of(held: tuple[float, int] | None) -> str:
    """What stands on both sides of the line; ``held``: strength and steps of A."""
    left = "without feedback" if held is None else f"A, as it was held (strength {held[0]:g}, {held[1]} step(s))"
    return f"Left of the line: {left}. Right of it: with feedback, as set. Drag the line."


def _pictures(studio: Studio) -> tuple[Any, ...]:
    import gradio as gr

    full = studio.full_colour
    captions = (
        "Without feedback",
        "With feedback",
        f"Difference: red is brighter, blue darker; full colour from ±{full:g} on",
    )
    shown = []
    status = gr.Markdown(elem_id="status")
    with gr.Column(visible=not studio.takes_pictures, elem_id="seen") as pictures:
        caption = gr.Markdown(caption_of(None), elem_id="caption")
        compare = gr.ImageSlider(
            label="without and with feedback", show_label=False, type="numpy", format="png", interactive=False,
            elem_id="compare", max_height=420, buttons=["fullscreen", "download"],
        )  # fmt: skip
        with gr.Row(elem_id="single"):
            for name, said in zip(("base", "feedback", "difference"), captions, strict=True):
                with gr.Column(min_width=200):
                    gr.Markdown(said)
                    shown.append(_image(said, name))
    base, feedback, difference = shown
    return pictures, caption, compare, base, feedback, difference, status


def _fields(studio: Studio) -> tuple[Any, ...]:
    import gradio as gr

    start, latent = studio.start(), not studio.takes_pictures
    strength = gr.Slider(*_range(start.strength), start.strength, step=0.05, label="strength α", elem_id="strength")
    with gr.Row():
        off = gr.Button("Off", size="sm", elem_id="off", min_width=50)
        half = gr.Button("Half", size="sm", elem_id="half", min_width=50)
        reset = gr.Button("As saved", size="sm", elem_id="reset", min_width=50)
    hold = gr.Button(HOLD, size="sm", elem_id="hold")
    held = gr.State(None)
    steps = gr.Slider(0, max(MOST_STEPS, start.steps), start.steps, step=1, label="feedback steps T", elem_id="steps")
    seed = gr.Number(
        0, label="seed of the latents", precision=0, minimum=0, maximum=2**32, elem_id="seed", visible=latent
    )  # fmt: skip
    samples = gr.Slider(1, 16, 4, step=1, label="samples", elem_id="samples", visible=latent)
    label: gr.Number | gr.Dropdown
    if classes := studio.classes():
        label = gr.Dropdown(classes, value=classes[0][1], label="class", elem_id="label")
    else:
        label = gr.Number(0, label="class", precision=0, minimum=0, visible=studio.takes_labels, elem_id="label")
    again = gr.Button("New latents", visible=latent, elem_id="again")
    keep = gr.Checkbox(True, label="keep these latents when a slider moves", visible=latent, elem_id="keep")
    links, switches = [], []
    with gr.Accordion(f"Strength of each link ({len(studio.names)})", open=len(studio.names) <= 4, elem_id="linkbox"):
        for i, (name, alpha) in enumerate(zip(studio.link_names(), start.links, strict=True)):
            switches.append(gr.Checkbox(True, label=name, elem_id=f"on{i}"))
            links.append(
                gr.Slider(*_range(alpha), alpha, step=0.05, label="strength", show_label=False, elem_id=f"link{i}")
            )
    if said := studio.about_latents():
        gr.Markdown(f"<small>{said}</small>")
    return strength, links, switches, steps, seed, samples, label, keep, again, off, half, reset, hold, held


def _range(alpha: float) -> tuple[float, float]:
    """What a slider spans: 0 to 2, and the head's own strength."""
    return min(0.0, alpha), max(2.0, alpha)
