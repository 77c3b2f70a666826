"""Where D finds each step's sample wanting: the response map over the steps (FAL Fig. 8).

Example:
    >>> maps = response_maps(loop, z[:6], steps=3)                                     # doctest: +SKIP
    >>> maps.save("studies")        # studies/response.csv and .png                    # doctest: +SKIP
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fbwrap.critic import image_of
from fbwrap.errors import SettingError
from fbwrap.loop import FeedbackLoop

from .quality import unit
from .studies import Inputs, Study, first_step


@dataclass(frozen=True)
class Maps(Study):
    """A study whose plot is pictures: a row a sample, a column a step, D's response laid over the sample.

    Attributes:
        outputs, responses: y_t and r_t, step by step.
        value_range: of the samples.
    """

    outputs: tuple[Tensor, ...] = ()
    responses: tuple[Tensor, ...] = ()
    value_range: tuple[float, float] = (-1.0, 1.0)

    def plot(self) -> Any:
        """A matplotlib figure; red is where D finds it fake, blue real, on one scale for all steps."""
        from matplotlib.figure import Figure

        samples, steps = len(self.outputs[0]), len(self.outputs)
        figure = Figure(figsize=(1.6 * steps + 0.8, 1.6 * samples), layout="constrained")
        every = torch.cat([response.flatten() for response in self.responses]).float()
        low, high = float(every.min()), float(every.max())
        first = int(self.rows[0]["step"])
        panels = figure.subplots(samples, steps, squeeze=False)
        for t, (output, response) in enumerate(zip(self.outputs, self.responses, strict=True)):
            pictures, heat = _flat(output, self.value_range), _flat(response, None)
            heat = F.interpolate(heat, pictures.shape[2:], mode="bilinear")
            for row in range(samples):
                axes = panels[row][t]
                axes.imshow(pictures[row].permute(1, 2, 0).numpy(), vmin=0, vmax=1)
                shown = axes.imshow(heat[row, 0].numpy(), cmap="coolwarm_r", vmin=low, vmax=high, alpha=0.5)
                axes.set_axis_off()
                if row == 0:
                    axes.set_title(f"t = {first + t}", fontsize=9)
        figure.colorbar(shown, ax=panels.ravel().tolist(), label="D's response")
        return figure


@torch.no_grad()
def response_maps(
    loop: FeedbackLoop, inputs: Inputs, steps: int = 3, value_range: tuple[float, float] = (-1.0, 1.0)
) -> Maps:
    """D's response map to each step's sample; a few inputs: all are run at once.

    Raises:
        SettingError: D answers with one number a sample.
    """
    rollout = loop.rollout(*(inputs if isinstance(inputs, tuple) else (inputs,)), steps=steps)
    begin = first_step(loop)
    outputs = tuple(image_of(y).float().cpu() for y in rollout.outputs[begin:])
    responses = tuple(r.float().cpu() for r in rollout.responses[begin:])
    if responses[0].dim() < 4 or responses[0][0, 0].numel() == 1:
        raise SettingError(
            f"D answers with {tuple(responses[0].shape)}, one number a sample: there is no map to show. Attach with "
            "response=, where in D's answer a map is, or with a D that does not pool."
        )
    rows = [
        {"step": t, "sample": i, "mean": float(r.mean()), "lowest": float(r.min()), "highest": float(r.max())}
        for t, response in enumerate(responses, begin)
        for i, r in enumerate(response)
    ]
    return Maps("response", "step", tuple(rows), outputs, responses, value_range)


def _flat(sample: Tensor, value_range: tuple[float, float] | None) -> Tensor:
    """As pictures: of several channels that are no colours, the mean; of voxels, the view along the first axis."""
    while sample.dim() > 4:
        sample = sample.mean(2)
    if sample.shape[1] not in (1, 3) or value_range is None:
        sample = sample.mean(1, keepdim=True)
    return sample if value_range is None else unit(sample, value_range).expand(-1, 3, -1, -1)
