"""The command line as tests call it, and networks in a file of their own."""

import subprocess
import sys

NETS = """
import torch
from torch import nn
from neighbour import WIDTH


class G(nn.Module):
    def __init__(self, z=8, width=WIDTH):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(z, width, 4, 1, 0), nn.ReLU(True), nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh()
        )

    def forward(self, x):
        return self.main(x)


class D(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 6, 4, 2, 1), nn.LeakyReLU(0.2, True), nn.Conv2d(6, 1, 4))

    def forward(self, x):
        return self.net(x)


not_a_class = 3
"""


def run(*words, first="", **options):
    command = [sys.executable, "-c", f"{first}\nfrom fbwrap.app.cli import main; main()", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def command(*arguments):
    from typer.testing import CliRunner

    from fbwrap.app.cli import app

    return CliRunner().invoke(app, list(map(str, arguments)))


def inspect(*arguments):
    from typer.testing import CliRunner

    from fbwrap.app.cli import app

    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])
