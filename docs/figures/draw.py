"""The figures of docs/concepts.md, redrawn from the papers: python docs/figures/draw.py

AFL Fig. 1 and 3 (the loop; the modules between D's and G's layers), FAL Fig. 2 and 3 (T steps with carried h; the
feedback encoder and decoder).
"""

from pathlib import Path

from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

rcParams["svg.hashsalt"] = "fbwrap"  # the same file each time
HERE = Path(__file__).parent
GREEN, BLUE, RED, GREY = "#d5e8d4", "#dae8fc", "#f8cecc", "#f5f5f5"


class Canvas:
    """Boxes and arrows in units of inches."""

    def __init__(self, width: float, height: float):
        self.figure = Figure(figsize=(width, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.set_axis_off()

    def box(self, x: float, y: float, text: str, colour: str, width: float = 0.9, height: float = 0.5) -> None:
        shape = FancyBboxPatch((x - width / 2, y - height / 2), width, height, "round,pad=0.02", fc=colour, ec="#444")
        self.axes.add_patch(shape)
        self.axes.text(x, y, text, ha="center", va="center", fontsize=9)

    def arrow(
        self, a: tuple, b: tuple, text: str = "", colour: str = "#333", bend: float = 0.0, up: float = 0.1
    ) -> None:
        style = f"arc3,rad={bend}"
        line = FancyArrowPatch(a, b, arrowstyle="-|>", mutation_scale=11, connectionstyle=style, color=colour, lw=1.3)
        self.axes.add_patch(line)
        if text and a[0] == b[0]:
            self.axes.text(a[0] + 0.08, (a[1] + b[1]) / 2, text, va="center", fontsize=8, color=colour)
        elif text:
            self.axes.text((a[0] + b[0]) / 2, (a[1] + b[1]) / 2 + up, text, ha="center", fontsize=8, color=colour)

    def save(self, name: str) -> None:
        self.figure.savefig(HERE / name, metadata={"Date": None})


def afl() -> None:
    """One step: D's features go through modules into G's layers."""
    c = Canvas(8.2, 3.6)
    xs = [1.4, 2.9, 4.4, 5.9]
    c.arrow((0.3, 2.9), (0.9, 2.9), "z")
    for i, x in enumerate(xs):
        c.box(x, 2.9, f"G layer {i + 1}", GREEN, 1.1)
        c.box(x, 0.6, f"D layer {4 - i}", BLUE, 1.1)
        c.box(x, 1.75, f"$f_{i + 1}$", RED, 0.7)
        c.arrow((x, 0.87), (x, 1.45), r"$\theta$")
        c.arrow((x, 2.05), (x, 2.6), r"$+\,\alpha f$")
    for a, b in zip(xs[:-1], xs[1:], strict=True):
        c.arrow((a + 0.58, 2.9), (b - 0.58, 2.9))
        c.arrow((b - 0.58, 0.6), (a + 0.58, 0.6))
    c.arrow((6.5, 2.9), (7.3, 2.9), "$y_t$")
    c.arrow((7.5, 2.75), (6.5, 0.6), "$y_{t-1}$", bend=-0.45, up=-0.2)
    c.save("afl.svg")


def fal() -> None:
    """T steps: h is carried, the last image and D's response map transform it."""
    c = Canvas(9.2, 3.4)
    c.box(0.7, 2.6, "$G_e$", GREEN, 0.7)
    c.arrow((0.7, 3.2), (0.7, 2.87), "x")
    for t in range(3):
        x = 2.4 + 2.6 * t
        c.box(x, 2.6, f"AST\n$h_{t + 1}=\\gamma\\circ h_{t}+\\beta$", RED, 1.5, 0.6)
        c.box(x, 1.5, "$G_d$", GREEN, 0.7)
        c.box(x + 1.15, 0.5, "D", BLUE, 0.7)
        c.arrow((x, 2.27), (x, 1.78))
        c.arrow((x, 1.22), (x + 0.75, 0.55), f"$y_{t + 1}$", up=-0.28)
        start = (1.07, 2.6) if t == 0 else (x - 1.83, 2.6)
        c.arrow(start, (x - 0.78, 2.6), f"$h_{t}$")
        if t < 2:
            c.arrow((x + 1.5, 0.62), (x + 1.95, 2.28), f"$y_{t + 1}, r_{t + 1}$", up=-0.4)
    c.save("fal.svg")


def modules() -> None:
    """The networks between: AFL's dual-input module, and FAL's encoder and decoder."""
    c = Canvas(9.2, 2.6)
    c.box(0.7, 2.0, r"$\theta$ (D)", BLUE)
    c.box(0.7, 1.2, r"$\varphi$ (G)", GREEN)
    c.box(2.1, 1.6, "concat", GREY)
    c.box(3.4, 1.6, "conv · norm\nReLU · conv", RED, 1.1, 0.6)
    c.box(4.9, 1.6, r"$\varphi+\alpha f$", GREEN, 1.0)
    for a, b in (((1.17, 2.0), (1.63, 1.7)), ((1.17, 1.2), (1.63, 1.5)), ((2.57, 1.6), (2.83, 1.6))):
        c.arrow(a, b)
    c.arrow((3.97, 1.6), (4.38, 1.6))
    c.axes.text(2.7, 0.55, "AFL, dual input", ha="center", fontsize=9)
    c.box(6.1, 2.2, "$y$, up($r$)", BLUE)
    c.box(7.3, 2.2, "$F_e$", RED, 0.7)
    c.box(6.1, 1.2, "$h$", GREEN)
    c.box(7.3, 1.2, "$F_d$", RED, 0.7)
    c.box(8.5, 1.2, r"$\gamma,\ \beta$", GREY, 0.8)
    for a, b in (((6.57, 2.2), (6.93, 2.2)), ((7.3, 1.93), (7.3, 1.47)), ((6.57, 1.2), (6.93, 1.2))):
        c.arrow(a, b)
    c.arrow((7.67, 1.2), (8.08, 1.2))
    c.axes.text(7.3, 0.55, "FAL, adaptive spatial transform", ha="center", fontsize=9)
    c.save("modules.svg")


if __name__ == "__main__":
    afl()
    fal()
    modules()
