"""A loop as one file that ONNX Runtime runs: neither fbwrap nor torch is needed where it is served.

    pip install '.[onnx]'
    python examples/serve_onnx.py

Exports the pretrained pair of fbwrap.app.digits with the head of examples/digits, the strength as an input, then draws
digits at three strengths with ONNX Runtime and NumPy alone (``serve``). Writes serve_onnx.png.
"""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "digits"


def exported(path: Path) -> Path:
    """The file; ``fbwrap export … --to loop.onnx --strength-input`` makes the same."""
    import fbwrap
    from fbwrap.app.digits import pretrained
    from fbwrap.app.exporting import write

    G, D = pretrained()
    loop = fbwrap.from_pretrained(FOLDER / "head", G, D)
    made = write(loop, path, strength_input=True)
    print(f"{path.name}: {made.size / 1024:.0f} KiB, off by {max(check.difference for check in made.checks):.0e}")
    return path


def serve(path: Path, z: np.ndarray, strength: float) -> np.ndarray:
    """Samples (N, 1, 8, 8) from -1 to 1, of latents (N, 16)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return session.run(None, {"z": z, "strength": np.array(strength, np.float32)})[0]


def main() -> None:
    from PIL import Image

    path = exported(Path("digits.onnx"))
    z = np.random.default_rng(0).standard_normal((8, 16), dtype=np.float32)
    rows = [np.concatenate(list(serve(path, z, strength)[:, 0]), 1) for strength in (0.0, 0.5, 1.0)]
    pixels = ((np.concatenate(rows) + 1) * 127.5).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).resize((pixels.shape[1] * 8, pixels.shape[0] * 8), Image.Resampling.NEAREST).save(
        "serve_onnx.png"
    )


if __name__ == "__main__":
    main()
