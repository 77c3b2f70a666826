"""Draws ``docs/images/before_after.png``: the first ten columns of ``docs/images/mnist.png``, larger and with names.

    python docs/figures/before_after.py

``mnist.png`` is written by ``examples/pretrained_mnist.py``.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

IMAGES = Path(__file__).parent.parent / "images"
COLUMNS, TIMES, MARGIN = 10, 2, 230


def main() -> None:
    """Write the picture."""
    grid = Image.open(IMAGES / "mnist.png").convert("L")
    side = grid.height // 2
    grid = grid.crop((0, 0, COLUMNS * side, grid.height))
    grid = grid.resize((TIMES * grid.width, TIMES * grid.height), Image.Resampling.LANCZOS)
    picture = Image.new("L", (MARGIN + grid.width, grid.height), 255)
    picture.paste(grid, (MARGIN, 0))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(26)
    for row, name in enumerate(("generator", "with feedback")):
        draw.text((12, (row + 0.5) * TIMES * side), name, 0, font, anchor="lm")
    picture.save(IMAGES / "before_after.png", optimize=True)


if __name__ == "__main__":
    main()
