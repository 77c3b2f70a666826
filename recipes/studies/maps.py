"""Where D finds each step's sample wanting: the response map over the steps (FAL Fig. 8).

Examples:
    >>> maps = response_maps(loop, z[:6], steps=3)                                     # doctest: +SKIP
    >>> maps.save("studies")        # studies/response.csv and .png                    # doctest: +SKIP
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fbwrap.feedback.critic import image_of
from fbwrap.loop import FeedbackLoop
from fbwrap.plots import check_map, response_overlay

from .sweeps import Inputs, Study, first_step


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
        first, samples = int(self.rows[0]["step"]), len(self.outputs[0])
        return response_overlay(self.outputs, self.responses, self.value_range, samples, first)


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
    check_map(responses[0])
    rows = [
        {"step": t, "sample": i, "mean": float(r.mean()), "lowest": float(r.min()), "highest": float(r.max())}
        for t, response in enumerate(responses, begin)
        for i, r in enumerate(response)
    ]
    return Maps("response", "step", tuple(rows), outputs=outputs, responses=responses, value_range=value_range)
