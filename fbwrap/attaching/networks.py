"""First stage: the two networks, looked through wrappers and names; what cannot be attached is refused."""

from dataclasses import dataclass

from torch import nn

from ..engine.checks import check_loaded
from ..engine.names import unwrap
from ..errors import SettingError
from ..recognition.detect import Recognised
from ..recognition.named import resolve_generator
from .request import Request


@dataclass(frozen=True)
class Networks:
    """G and D.

    Attributes:
        generator: the module.
        base: where it can be fetched, if it was named.
        discriminator: the module; None: there is none, or it is made by name once G's range is known.
        recognised: what adapters know about them.
    """

    generator: nn.Module
    base: str | None
    discriminator: nn.Module | None
    recognised: Recognised


def unwrap_networks(request: Request) -> Networks:
    """The networks of a request; options that make no sense are refused here."""
    generator, base = resolve_generator(request.generator)
    if not isinstance(generator, nn.Module):
        hint = " (The eval() of some networks returns None: call it on a line of its own.)" if generator is None else ""
        raise SettingError(f"generator={generator!r} is not a torch.nn.Module.{hint}")
    critic = request.discriminator
    if not isinstance(critic, nn.Module | str | None):
        raise SettingError(f"discriminator={critic!r} is not a torch.nn.Module.")
    if request.critic_mode not in ("eval", "inherit"):
        raise SettingError(f"critic_mode={request.critic_mode!r}: pass 'eval' or 'inherit'.")
    if request.first not in (None, "base", "zeros"):
        raise SettingError(f"first={request.first!r}: pass 'base' (AFL), 'zeros' (FAL) or None.")
    check_loaded("G", generator)
    if isinstance(critic, nn.Module):
        check_loaded("D", critic)
    given = None if isinstance(critic, str) else critic
    recognised = Recognised(generator, given, request.adapter)
    if not isinstance(critic, str):
        recognised.check()
    return Networks(generator, base, given, recognised)


def method_of(generator: nn.Module, name: str) -> str:
    """The name of a method of G that can generate."""
    net = unwrap(generator)
    if name != "forward" and (hasattr(nn.Module, name) or name.startswith("_")):
        raise SettingError(
            f"method={name!r} is private or a method of every nn.Module. Pass the method of G that generates "
            "samples, such as 'decode'."
        )
    if not callable(getattr(net, name, None)):
        raise SettingError(f"method={name!r}: {type(net).__name__} has no such method.")
    return name
