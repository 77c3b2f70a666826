"""One sample and what it should be, or how natural it looks: images, segmentation maps, depth.

Example:
    >>> import torch
    >>> x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> depth(1.1 * x[:, :1] + 0.1, x[:, :1] + 0.1)["rel"] < 0.1
    True

Every function takes batches and returns means over them. Libraries do the work where there are any, and are imported
where they are used.
"""

import sys
import types
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fbwrap.errors import SettingError


def image_quality(output: Tensor, target: Tensor, value_range: tuple[float, float] = (0.0, 1.0)) -> dict[str, float]:
    """RMSE (of 255 grey levels, as AFL's Table 1 has it), PSNR and SSIM of images, means over the batch."""
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    made, wanted = (unit(image, value_range) for image in (output, target))
    each = (made - wanted).square().flatten(1).mean(1)
    psnr = peak_signal_noise_ratio(made, wanted, data_range=1.0, reduction="elementwise_mean", dim=(1, 2, 3))
    return {
        "rmse": float(each.sqrt().mean() * 255),
        "psnr": float(psnr),
        "ssim": float(structural_similarity_index_measure(made, wanted, data_range=1.0)),  # type: ignore[arg-type]
    }


def niqe(images: Tensor, value_range: tuple[float, float] = (0.0, 1.0)) -> float:
    """NIQE (Mittal et al. 2013) on Y, by BasicSR with its official parameters: lower is more natural. Images of at
    least 192 pixels a side: two blocks of 96 are the least that have a covariance."""
    if min(images.shape[2:]) < 96 or (images.shape[2] // 96) * (images.shape[3] // 96) < 2:
        raise SettingError(f"NIQE looks at blocks of 96x96 and wants at least two; {tuple(images.shape[2:])} is less.")
    calculate = _basicsr_niqe()
    pixels = (unit(images, value_range) * 255).round().permute(0, 2, 3, 1).cpu().numpy()
    scores = [calculate(image[:, :, ::-1].astype("float32"), crop_border=0) for image in pixels]
    return float(sum(scores) / len(scores))


def _basicsr_niqe() -> Any:
    name = "torchvision.transforms.functional_tensor"  # basicsr 1.4.2 imports it, torchvision dropped it in 0.17
    absent = name not in sys.modules
    if absent:
        from torchvision.transforms import functional

        moved = types.ModuleType(name)
        moved.rgb_to_grayscale = functional.rgb_to_grayscale  # type: ignore[attr-defined]
        sys.modules[name] = moved
    try:
        from basicsr.metrics.niqe import calculate_niqe
    except ImportError as error:
        raise SettingError(f"NIQE needs basicsr (and opencv, scipy, torchvision): {error}.") from error
    finally:
        if absent:
            sys.modules.pop(name, None)
    return calculate_niqe


def lpips(output: Tensor, target: Tensor, value_range: tuple[float, float] = (-1.0, 1.0), net: str = "alex") -> float:
    """LPIPS (Zhang et al. 2018), mean over the batch, by the lpips package: lower is closer.

    Args:
        net: ``"alex"`` or ``"vgg"``; its trunk's weights are downloaded once.

    Raises:
        SettingError: the package is not installed, or the weights can be neither found nor downloaded.
    """
    made, wanted = (2 * unit(image, value_range) - 1 for image in (output, target))
    with torch.no_grad():
        return float(_lpips(net)(made, wanted).mean())


@cache
def _lpips(net: str) -> Any:
    try:
        import lpips as package

        return package.LPIPS(net=net, verbose=False).eval()
    except Exception as error:
        raise SettingError(
            f"LPIPS cannot be had: {type(error).__name__}: {error}. It needs the package lpips, and its trunk's "
            "weights once from the net; fbwrap.recipes.Perceptual measures in the features of any other network."
        ) from error


def perceptual_index(images: Tensor, value_range: tuple[float, float] = (0.0, 1.0)) -> float:
    """PI = ½ ((10 − Ma) + NIQE) (Blau et al. 2018; AFL's Table 1), mean over the batch, by pyiqa: lower is better.

    Raises:
        SettingError: pyiqa is not installed (its licence is not for commercial use, so fbwrap does not ask for it), or
            its weights can be neither found nor downloaded.
    """
    try:
        import pyiqa

        metric = pyiqa.create_metric("pi")
    except Exception as error:
        raise SettingError(
            f"PI cannot be had: {type(error).__name__}: {error}. Its half by Ma et al. is in pyiqa alone: install it "
            "if its licence suits you; niqe() is the other half."
        ) from error
    return float(metric(unit(images, value_range)).mean())


def segmentation(found: Tensor, wanted: Tensor, classes: int, ignore: int = 255) -> dict[str, float]:
    """Share of pixels that are right, mean over classes of it, and mean IoU (FAL's Table 2), of label maps.

    Args:
        found, wanted: integers (N, H, W): what a segmentation network reads in generated images, and the true maps.
        ignore: a label that does not count.
    """
    counts = wanted != ignore
    pairs = torch.bincount(wanted[counts].long() * classes + found[counts].long(), minlength=classes**2)
    table = pairs.view(classes, classes).double()
    right, true, said = table.diagonal(), table.sum(1), table.sum(0)
    there = true > 0
    return {
        "pixels": float(right.sum() / table.sum()),
        "classes": float((right / true)[there].mean()),
        "IoU": float((right / (true + said - right))[there].mean()),
    }


def depth(found: Tensor, wanted: Tensor) -> dict[str, float]:
    """REL, RMSE and the shares δ within 1.25, 1.25², 1.25³ (FAL's Table 3), of positive depths; true ones of zero
    do not count.

    Args:
        found, wanted: what a depth network reads in generated images, and the true depths, of one shape and unit.
    """
    there = wanted > 0
    a, b = found[there].double().clamp(min=1e-6), wanted[there].double()
    ratio = torch.maximum(a / b, b / a)
    within = {f"δ{i}": float((ratio < 1.25**i).double().mean()) for i in (1, 2, 3)}
    return {"rel": float(((a - b).abs() / b).mean()), "rmse": float((a - b).square().mean().sqrt()), **within}


def unit(image: Tensor, value_range: tuple[float, float]) -> Tensor:
    """An image brought to [0, 1]."""
    low, high = value_range
    return (image.clamp(low, high) - low) / (high - low)
