"""One process or several, in full or mixed precision: what Hugging Face accelerate does for a run.

Examples:
    >>> processes = Processes(torch.device("cpu"))
    >>> processes.main, processes.share(torch.arange(4)).tolist()
    (True, [0, 1, 2, 3])

Every process holds the same weights and draws the same global batch; each learns from its share of it, and the
gradients are averaged before each optimizer step. So any number of processes trains to the same head as one with
the same batch, but for the order of sums, and for what is a mean over the batch within the network or the loss: batch
norm's statistics and the relativistic loss's means are those of a share. What modules draw by themselves (dropout)
is the same in every process.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fbwrap.errors import SettingError, extra

from ..data.batches import part_of
from .steps import Passes, finite


class Processes(Passes):
    """The processes of a run, started by ``accelerate launch`` or ``torchrun``; or this one alone.

    Args:
        device: where the networks are.
        mixed_precision: ``"no"``, ``"fp16"`` (GPU) or ``"bf16"``.
        trackers: what ``accelerate.Accelerator(log_with=)`` takes: ``"tensorboard"``, ``"wandb"``, a tracker …
        folder: of the trackers' files.
    """

    def __init__(
        self, device: torch.device, mixed_precision: str = "no", trackers: object = None, folder: Path | None = None
    ):
        try:
            from accelerate import Accelerator
            from accelerate.state import AcceleratorState, GradientState, PartialState
        except ImportError as error:
            raise SettingError(f"The recipes need accelerate: {extra('recipes')} ({error}).") from error
        if mixed_precision == "fp16" and device.type == "cpu":
            raise SettingError("mixed_precision='fp16' needs a GPU: on a CPU pass 'bf16', or 'no'.")
        # accelerate's state is the process's: the user's comes back in the end. Several processes keep their group
        alone = PartialState._shared_state.get("num_processes", 1) == 1 and not self._launched()
        shared = [AcceleratorState, GradientState, *([PartialState] if alone else [])]
        self._before = [(state, dict(state._shared_state)) for state in shared]
        for state in shared:
            state._shared_state.clear()
        try:
            self._accelerator = Accelerator(
                mixed_precision=mixed_precision,
                cpu=device.type == "cpu",
                log_with=trackers,
                project_dir=str(folder) if folder else None,
            )
        except BaseException:
            self._give_back()
            raise
        self.count, self.rank = self._accelerator.num_processes, self._accelerator.process_index
        self._tracked = trackers is not None

    @staticmethod
    def _launched() -> bool:
        return int(os.environ.get("WORLD_SIZE", "1")) > 1

    @staticmethod
    def is_main() -> bool:
        """Whether this process writes files, told without a run."""
        return not dist.is_available() or not dist.is_initialized() or dist.get_rank() == 0

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return bool(self._accelerator.is_main_process)

    def prepare(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """An optimizer that knows about the loss scale."""
        prepared: torch.optim.Optimizer = self._accelerator.prepare(optimizer)
        return prepared

    def autocast(self) -> AbstractContextManager[Any]:
        """Around a forward pass."""
        context: AbstractContextManager[object] = self._accelerator.autocast()
        return context

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradient, scaled where the precision wants it."""
        self._accelerator.backward(loss)

    def update(self, optimizer: torch.optim.Optimizer, losses: Sequence[Tensor]) -> None:
        """Step down the gradients of all processes."""
        if self.count > 1:
            _average([p for group in optimizer.param_groups for p in group["params"]])
        if self._accelerator.scaler is None:
            self.check(optimizer, losses)
        else:  # a scaled gradient may overflow: the scaler passes the step over
            finite(losses)
        optimizer.step()

    def scale(self) -> dict[str, Any] | None:
        """Where fp16's loss scale stands; None in other precisions."""
        scaler = self._accelerator.scaler
        return scaler.state_dict() if scaler is not None else None

    def set_scale(self, state: dict[str, object] | None) -> None:
        """Go on from there."""
        if state and self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state)

    @torch.no_grad()
    def same(self, *networks: torch.nn.Module | None) -> None:
        """Give every process the first one's weights and statistics."""
        if self.count > 1:
            for net in networks:
                for tensor in net.state_dict().values() if net is not None else ():
                    if isinstance(tensor, Tensor):
                        dist.broadcast(tensor, 0)

    def random(self, n: int, device: torch.device) -> Tensor:
        """n of the global batch's uniform random numbers: those of this process's samples."""
        numbers: Tensor = self.share(torch.rand(n * self.count, device=device))
        return numbers

    def share(self, batch: object) -> Any:
        """This process's rows of a global batch."""
        return part_of(batch, self.rank, self.count)

    def mean(self, values: dict[str, float], device: torch.device) -> dict[str, float]:
        """Each value's mean over the processes."""
        if self.count == 1 or not values:
            return values
        held = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
        dist.all_reduce(held)
        return dict(zip(values, (held / self.count).tolist(), strict=True))

    def agreed(self, flag: bool, device: torch.device) -> bool:
        """Whether any process says so: all stop together."""
        if self.count == 1:
            return flag
        held = torch.tensor(float(flag), device=device)
        dist.all_reduce(held)
        return bool(held.item())

    def start_tracking(self, name: str, config: dict[str, object]) -> None:
        """Open the trackers."""
        if self._tracked:
            plain = {key: str(value) if isinstance(value, tuple) else value for key, value in config.items()}
            self._accelerator.init_trackers(name, config=plain)

    def log(self, values: dict[str, float], step: int) -> None:
        """Give values to the trackers."""
        if self._tracked:
            self._accelerator.log(values, step=step)

    def end(self) -> None:
        """Close the trackers: files are whole. The processes go on: accelerate's end_training would end them."""
        try:
            for tracker in self._accelerator.trackers if self._tracked else ():
                tracker.finish()
        finally:
            self._give_back()

    def _give_back(self) -> None:
        """The user's state of accelerate."""
        for state, before in self._before:
            state._shared_state.clear()
            state._shared_state.update(before)


def _average(parameters: list[Tensor]) -> None:
    """Every gradient's mean over the processes, in one all-reduce."""
    held = [p for p in parameters if p.requires_grad]
    for parameter in held:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([p.grad.reshape(-1) for p in held if p.grad is not None])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for parameter, part in zip(held, flat.split([p.numel() for p in held]), strict=True):
        parameter.grad = part.view_as(parameter)
