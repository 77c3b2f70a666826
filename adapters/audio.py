"""HiFi-GAN, BigVGAN and WaveGAN: audio.

Examples:
    >>> loop = fbwrap.attach(generator, mpd)                            # HiFi-GAN    # doctest: +SKIP
    >>> with loop.installed():                                          # doctest: +SKIP
    ...     audio = generator(mel)

HiFi-GAN's discriminators are called as D(y, ŷ) and return nested lists; at test time there is no y, so both are the
sample. Features of the period discriminators are 4-D; they are resized along time.
"""

from torch import Tensor

from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily, Network


def _mel(net: Network) -> Tensor:
    return net.noise(1, net.shape("conv_pre")[1], 32)


def _uniform(net: Network) -> Tensor:
    return net.picture(1, net.shape(net.leaves[0])[1])


ADAPTER = Adapter(
    name="audio",
    citation="Kong, Kim, Bae, HiFi-GAN, NeurIPS 2020; Donahue, McAuley, Puckette, WaveGAN, ICLR 2019; "
    "Lee et al., BigVGAN, ICLR 2023",
    generators=(
        GeneratorFamily(
            "HiFi-GAN",
            layers={"conv_pre": "Conv1d", "ups.0": "ConvTranspose1d", "resblocks.0": "", "conv_post": "Conv1d"},
            example=_mel,
            targets=("ups.?",),
            value_range=(-1.0, 1.0),
        ),
        GeneratorFamily(
            "BigVGAN",
            layers={"conv_pre": "Conv1d", "ups.0.0": "ConvTranspose1d", "resblocks.0": "", "conv_post": "Conv1d"},
            example=_mel,
            targets=("ups.?.0",),
            value_range=(-1.0, 1.0),
        ),
        GeneratorFamily(
            "WaveGAN",
            types=r"^Linear(?: (?:Conv1d|ConvTranspose1d|Upsample|ConstantPad1d|BatchNorm1d|ReLU|LeakyReLU|Tanh))+$",
            example=_uniform,
            value_range=(-1.0, 1.0),
        ),
    ),
    critics=(
        CriticFamily(
            "HiFi-GAN, several discriminators",
            layers={"discriminators.0.convs.0": "Conv[12]d", "discriminators.1.conv_post": "Conv[12]d"},
            sources=("discriminators.?.convs.?#1",),
            critic_input="output_twice",
            response="[1][0]",
            loss="least_squares",
        ),
        CriticFamily(
            "HiFi-GAN, one discriminator",
            layers={"convs.0": "Conv[12]d", "convs.3": "Conv[12]d", "conv_post": "Conv[12]d"},
            sources=("convs.?",),
            response="[0]",
            loss="least_squares",
        ),
        CriticFamily(
            "WaveGAN",
            layers={"conv1": "Conv1d|DataParallel", "conv5": "Conv1d|DataParallel", "ps1": "", "fc1": ""},
            sources=("ps?",),
            loss="wasserstein_gp",
        ),
    ),
)
