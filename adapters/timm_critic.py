"""A timm backbone as the critic, for generators whose discriminator nobody published.

Examples:
    >>> loop = fbwrap.attach(G, "timm:resnet18")                               # doctest: +SKIP
    >>> loop = fbwrap.attach(G, "timm:convnext_atto(pretrained=False)")        # doctest: +SKIP

In the manner of projected GANs (Sauer et al., NeurIPS 2021): the backbone is frozen and stays in eval mode, and
light heads on its feature levels learn what is real. ``level.0``, ``level.1``, … (fine to coarse) are the sources.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbwrap.errors import CriticError, SettingError, extra
from fbwrap.files.download import MOST_BYTES, download, hub_errors
from fbwrap.files.pictures import is_picture
from fbwrap.recognition.spec import parse_call

_USUAL = {"pretrained": True, "levels": None, "width": 64}


class Level(nn.Module):
    """One of the backbone's features, channels first whatever the backbone has."""

    def __init__(self, channels_last: bool):
        super().__init__()
        self.channels_last = channels_last

    def forward(self, feature: Tensor) -> Tensor:
        """(N, C, H, W)."""
        return feature.movedim(-1, 1).contiguous() if self.channels_last else feature


class TimmCritic(nn.Module):
    """A frozen backbone with a head per feature level.

    Args:
        name: a timm model that has ``features_only``: convolutional ones, Swin, ViT.
        pretrained: with timm's weights; False: random ones.
        value_range: of the images that it will see; they are normalised as the backbone wants them, and
            resized to its own size.
        levels: which of its features, as timm's ``out_indices``; None: all.
        width: channels of the heads.

    ``forward`` takes (N, 3, H, W) or (N, 1, H, W) and returns logits (N, levels, h, w), each level's brought to
    the size of the finest: their mean weighs every level alike. Only the heads learn; ``train()`` leaves the
    backbone in eval mode.
    """

    mean: Tensor
    std: Tensor
    reproducible = False  # whether its backbone is the same each time it is made

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = True,
        value_range: tuple[float, float] = (-1.0, 1.0),
        levels: Sequence[int] | None = None,
        width: int = 64,
    ):
        super().__init__()
        backbone = _backbone(name, pretrained, levels)
        found = getattr(backbone, "pretrained_cfg", None) or backbone.model.pretrained_cfg
        config = found if isinstance(found, dict) else found.to_dict()
        self.name, self.value_range, self.size = name, tuple(value_range), tuple(config["input_size"][1:])
        self.backbone = backbone.requires_grad_(False).eval()
        last = str(getattr(backbone, "output_fmt", "NCHW")).endswith("NHWC")
        channels = backbone.feature_info.channels()
        self.level = nn.ModuleList(Level(last) for _ in channels)
        self.head = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 1, 3, padding=1))
            for c in channels
        )
        for what in ("mean", "std"):
            self.register_buffer(what, torch.tensor(config[what]).view(1, -1, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "TimmCritic":
        """The heads alone change their mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, levels, h, w)."""
        features = [level(f) for level, f in zip(self.level, self.backbone(self.prepared(image)), strict=True)]
        logits = [head(feature) for head, feature in zip(self.head, features, strict=True)]
        return torch.cat([F.interpolate(logit, logits[0].shape[2:]) for logit in logits], 1)

    def prepared(self, image: Tensor) -> Tensor:
        """The image as the backbone wants it: three channels, its size, its normalisation."""
        if not is_picture(image.shape):
            raise CriticError(
                f"A timm backbone looks at images (N, 3, H, W) or (N, 1, H, W), not at {tuple(image.shape)}. Pass "
                "critic_input=, a function of G's output that makes one."
            )
        low, high = self.value_range
        image = (image.to(self.mean.dtype).expand(-1, 3, -1, -1) - low) / (high - low)
        if tuple(image.shape[2:]) != self.size:
            image = F.interpolate(image, self.size, mode="bilinear", antialias=True, align_corners=False)
        return (image - self.mean) / self.std


def _backbone(name: str, pretrained: bool, levels: Sequence[int] | None) -> Any:
    try:
        import timm
    except Exception as error:  # also what a torchvision that is not torch's raises
        raise SettingError(
            f"The critic 'timm:{name}' needs timm, which cannot be imported ({type(error).__name__}: {error}): "
            f"{extra('timm')}, and a torchvision that is made for this torch."
        ) from error
    options: dict[str, Any] = {} if levels is None else {"out_indices": tuple(levels)}
    if pretrained and timm.is_model(name):
        options["pretrained_cfg_overlay"] = {"file": str(_weights(name))}
    try:
        return timm.create_model(name, pretrained=pretrained, features_only=True, **options)
    except Exception as error:
        raise SettingError(
            f"timm cannot make {name!r} with features_only (pretrained={pretrained}): {type(error).__name__}: "
            f"{error}. timm.list_models() lists names; pretrained weights are downloaded at first use."
        ) from error


def _weights(name: str) -> Path:
    """A backbone's weights, from the Hub: safetensors alone, of a bounded size.

    Raises:
        SettingError: timm knows no such weights there. HubError: they cannot be had.
    """
    import timm

    found = timm.get_pretrained_cfg(name)
    repo = getattr(found, "hf_hub_id", None)
    if not repo:
        raise SettingError(f"timm knows no weights of {name!r} on the Hub. Pass 'timm:{name}(pretrained=False)'.")
    with hub_errors(repo):
        path, _ = download(repo, "model.safetensors", None, MOST_BYTES)
    return path


def build(spec: str, value_range: tuple[float, float], bare: bool = False) -> TimmCritic:
    """``"resnet18"`` or ``"resnet18(pretrained=False, levels=[1, 2])"`` as a critic; ``bare``: without weights."""
    name, positional, named = parse_call(spec)
    if not re.fullmatch(r"[\w.]+", name):
        raise SettingError(f"timm:{name}: pass the name of an architecture, not an address.")
    if positional or set(named) - {"pretrained", "levels", "width"}:
        raise SettingError(f"'timm:{spec}': options are pretrained=, levels= and width=.")
    pretrained, levels, width = (named.get(key, usual) for key, usual in _USUAL.items())
    whole = isinstance(levels, list | tuple | None) and all(isinstance(n, int) and abs(n) < 64 for n in levels or ())
    if type(pretrained) is not bool or type(width) is not int or not 0 < width <= 4096 or not whole:
        raise SettingError(f"'timm:{spec}': pretrained is True or False, width 1 to 4096, levels a list of numbers.")
    critic = TimmCritic(name, pretrained=pretrained and not bare, levels=levels, width=width, value_range=value_range)
    critic.reproducible = pretrained
    return critic
