"""BigGAN: ajbrock's networks, and the pretrained ones of the package pytorch-pretrained-biggan.

Examples:
    >>> loop = fbwrap.attach(G, D)                      # doctest: +SKIP
    >>> image = loop(z, G.shared(y))                    # doctest: +SKIP

G is called with an embedding and D with a label, so D is asked without one: its features need none, and it is
stopped before its projection. To train, wrap both in a module ``forward(z, y)`` and pass
``critic_input="output_and_label"``.
"""

import torch

from fbwrap.adapter import Adapter, CriticFamily, GeneratorFamily, Network


def _latent_and_embedding(net: Network) -> object:
    """z in as many chunks as there are blocks, and one more, where it is hierarchical."""
    chunk, embedding = net.shape("linear")[1], net.shape("shared")[1]
    hierarchical = net.shape("blocks.0.0.bn1.gain")[1] == embedding + chunk
    chunks = len(net.indices("blocks", having="0")) + 1 if hierarchical else 1
    return net.noise(1, chunk * chunks), net.noise(1, embedding)


def _latent_class_and_truncation(net: Network) -> object:
    embedding, classes = net.shape("embeddings")
    label = torch.eye(classes)[:1].to(net.noise(1))
    return net.noise(1, net.shape("generator.gen_z")[1] - embedding), label, 0.4


ADAPTER = Adapter(
    name="biggan",
    citation="Brock, Donahue, Simonyan, Large Scale GAN Training for High Fidelity Natural Image Synthesis, ICLR 2019",
    generators=(
        GeneratorFamily(
            "BigGAN (ajbrock)",
            layers={
                "shared": "Embedding",
                "linear": "Linear",
                "blocks.0.0.bn1.gain": "Linear",
                "output_layer.2": "Conv2d",
            },
            example=_latent_and_embedding,
            value_range=(-1.0, 1.0),
        ),
        GeneratorFamily(
            "pytorch-pretrained-biggan",
            layers={"embeddings": "Linear", "generator.gen_z": "Linear", "generator.conv_to_rgb": "Conv2d"},
            example=_latent_class_and_truncation,
            value_range=(-1.0, 1.0),
        ),
    ),
    critics=(
        CriticFamily(
            "BigGAN (ajbrock)",
            layers={"blocks.0.0.conv1": "Conv2d", "linear": "Linear", "embed": "Embedding"},
            sources=("blocks.*.*",),
            loss="hinge",
        ),
    ),
)
