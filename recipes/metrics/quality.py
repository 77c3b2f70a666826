"""One sample and what it should be, or how natural it looks: images, segmentation maps, depth.

Examples:
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

from fbwrap.errors import SettingError, extra
from fbwrap.plots import unit

_BATCH = 16  # images at once


def image_quality(output: Tensor, target: Tensor, value_range: tuple[float, float] = (0.0, 1.0)) -> dict[str, float]:
    """RMSE (of 255 grey levels), PSNR and SSIM of images, on all their channels, means over the batch. (PIRM's RMSE, in
    AFL's Table 1, is on Y within a border of 4 pixels: pass that.)

    Raises:
        SettingError: torchmetrics is not installed.
    """
    try:
        from torchmetrics.functional.image import peak_signal_noise_ratio as psnr
        from torchmetrics.functional.image import structural_similarity_index_measure as ssim
    except ImportError as error:
        raise SettingError(f"PSNR and SSIM need torchmetrics: {extra('metrics')} ({error}).") from error
    found = []
    for a, b in zip(output.split(_BATCH), target.split(_BATCH), strict=True):
        made, wanted = unit(a, value_range), unit(b, value_range)
        each = (made - wanted).square().flatten(1).mean(1)
        peak = psnr(made, wanted, data_range=1.0, reduction="elementwise_mean", dim=(1, 2, 3))
        alike: Any = ssim(made, wanted, data_range=1.0)
        found.append(len(a) * torch.tensor([float(each.sqrt().mean() * 255), float(peak), float(alike)]).double())
    rmse, peak, alike = (torch.stack(found).sum(0) / len(output)).tolist()
    return {"rmse": rmse, "psnr": peak, "ssim": alike}


def niqe(images: Tensor, value_range: tuple[float, float] = (0.0, 1.0)) -> float:
    """NIQE (Mittal et al. 2013) on Y, by BasicSR with its official parameters: lower is more natural. Images with room
    for two blocks of 96x96: fewer have no covariance."""
    if (images.shape[2] // 96) * (images.shape[3] // 96) < 2:
        raise SettingError(f"NIQE looks at blocks of 96x96 and needs at least two; {tuple(images.shape[2:])} is less.")
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
    measure, found = _lpips(net).to(output.device), []
    with torch.no_grad():
        for a, b in zip(output.split(_BATCH), target.split(_BATCH), strict=True):
            found.append(measure(*(2 * unit(image, value_range) - 1 for image in (a, b))).flatten())
    return float(torch.cat(found).mean())


@cache
def _lpips(net: str) -> Any:
    try:
        import lpips as package

        return package.LPIPS(net=net, verbose=False).eval()
    except Exception as error:
        raise SettingError(
            f"LPIPS cannot be loaded: {type(error).__name__}: {error}. It needs the package lpips, and its trunk's "
            "weights once from the net; fbwrap.recipes.Perceptual measures in the features of any other network."
        ) from error


def perceptual_index(images: Tensor, value_range: tuple[float, float] = (0.0, 1.0)) -> float:
    """PI = ½ ((10 − Ma) + NIQE) (Blau et al. 2018; AFL's Table 1), mean over the batch, by pyiqa: lower is better.

    Raises:
        SettingError: pyiqa is not installed (its licence is not for commercial use, so fbwrap does not ask for it), or
            its weights can be neither found nor downloaded.
    """
    metric = _pyiqa("pi")
    return float(torch.stack([metric(unit(part, value_range)).mean() for part in images.split(1)]).mean())


@cache
def _pyiqa(name: str) -> Any:
    try:
        import pyiqa

        return pyiqa.create_metric(name)
    except Exception as error:
        raise SettingError(
            f"PI cannot be loaded: {type(error).__name__}: {error}. Its half by Ma et al. is only in pyiqa: install "
            "that if its licence suits you; niqe() is the other half."
        ) from error


def segmentation(found: Tensor, wanted: Tensor, classes: int, ignore: int = 255) -> dict[str, float]:
    """Share of pixels that are right, mean over classes of it, and mean IoU (FAL's Table 2 has the last two, FCN's
    scores), of label maps. A class that is in neither does not count.

    Args:
        found, wanted: integers (N, H, W): what a segmentation network reads in generated images, and the true maps.
        ignore: a label that does not count.

    Raises:
        SettingError: a label that is no class.
    """
    counts = wanted != ignore
    for name, labels in (("found", found), ("wanted", wanted)):
        if bool(((labels[counts] < 0) | (labels[counts] >= classes)).any()):
            raise SettingError(
                f"{name} holds labels outside 0 … {classes - 1}. Pass classes=, or ignore= for the rest."
            )
    pairs = torch.bincount(wanted[counts].long() * classes + found[counts].long(), minlength=classes**2)
    table = pairs.view(classes, classes).double()
    right, true, said = table.diagonal(), table.sum(1), table.sum(0)
    there = true > 0
    return {
        "pixels": float(right.sum() / table.sum()),
        "classes": float((right / true)[there].mean()),
        "IoU": float((right / (true + said - right))[true + said > 0].mean()),
    }


def depth(found: Tensor, wanted: Tensor) -> dict[str, float]:
    """REL, RMSE and the shares δ within 1.25, 1.25², 1.25³ (FAL's Table 3 has REL, δ1 and δ2), of positive depths; true
    ones of zero do not count.

    Args:
        found, wanted: what a depth network reads in generated images, and the true depths, of one shape and unit.
    """
    there = wanted > 0
    a, b = found[there].double().clamp(min=1e-6), wanted[there].double()
    ratio = torch.maximum(a / b, b / a)
    within = {f"δ{i}": float((ratio < 1.25**i).double().mean()) for i in (1, 2, 3)}
    return {"rel": float(((a - b).abs() / b).mean()), "rmse": float((a - b).square().mean().sqrt()), **within}
