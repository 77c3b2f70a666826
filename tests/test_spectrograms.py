"""Discriminators of audio that look at spectrograms, and those that fold the signal into rows."""

import pytest
import torch
import torch.nn.functional as F
from helpers import stir
from torch import nn

import fbwrap
from fbwrap.errors import PairingError, SettingError
from fbwrap.feedback.features import FeatureSpec, feature_spec_of, to_map
from fbwrap.feedback.time_axis import layout_of


class Vocoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.up = nn.Conv1d(5, 12, 3, padding=1), nn.ConvTranspose1d(12, 8, 16, 8, 4)
        self.last = nn.Conv1d(8, 1, 7, padding=3)

    def forward(self, mel):
        return self.last(F.leaky_relu(self.up(F.leaky_relu(self.first(mel))))).tanh()


class Resolution(nn.Module):
    """As UnivNet's and BigVGAN's: convolutions of a magnitude spectrogram, with time along one axis or the other."""

    def __init__(self, turned=False):
        super().__init__()
        self.turned = turned
        self.convs = nn.ModuleList([nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 7, 3, padding=1)])
        self.post = nn.Conv2d(7, 1, 3, padding=1)
        self.register_buffer("window", torch.hann_window(32))

    def forward(self, x):
        y = torch.stft(x.squeeze(1), 32, 8, window=self.window, return_complex=True).abs().unsqueeze(1)
        y = y.transpose(2, 3) if self.turned else y
        seen = []
        for layer in self.convs:
            y = F.leaky_relu(layer(y), 0.1)
            seen.append(y)
        return self.post(y).flatten(1), seen


class Period(nn.Module):
    """As HiFi-GAN's: rows of a period each."""

    def __init__(self, period=5):
        super().__init__()
        self.period = period
        self.convs = nn.ModuleList([nn.Conv2d(1, 6, (5, 1), (3, 1), (2, 0)), nn.Conv2d(6, 7, (5, 1), (3, 1), (2, 0))])
        self.post = nn.Conv2d(7, 1, (3, 1), padding=(1, 0))

    def forward(self, x):
        x = F.pad(x, (0, -x.shape[-1] % self.period)).unflatten(-1, (-1, self.period))
        for layer in self.convs:
            x = F.leaky_relu(layer(x), 0.1)
        return self.post(x).flatten(1)


MEL = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def vocoder():
    torch.manual_seed(0)
    return Vocoder().eval()


@pytest.mark.parametrize("turned", [False, True])
def test_a_spectrogram_is_a_sequence_of_bands(vocoder, turned):
    D = Resolution(turned).eval()
    with torch.no_grad(), stir(fbwrap.attach(vocoder, D, [("up", "convs.1")], example=MEL, response="[0]")) as loop:
        (source,) = loop.connections[0].sources
        assert source.form.layout == ("time_frequency" if turned else "frequency_time")
        assert (source.form.channels, source.form.spatial) == (28, (33,))
        assert "28 @ 33 spectrogram" in str(loop.plan)
        y = vocoder(MEL)
        signal = D.convs[1](D(y)[1][0])
        bands = F.adaptive_avg_pool2d(signal.transpose(2, 3) if turned else signal, (4, 33)).flatten(1, 2)
        bands = F.interpolate(bands, size=256, mode="linear")
        up = vocoder.up(F.leaky_relu(vocoder.first(MEL)))
        corrected = up + loop.feedback[0](up, bands)
        assert torch.allclose(loop(MEL), vocoder.last(F.leaky_relu(corrected)).tanh(), atol=1e-6)


class Both(nn.Module):
    """Several discriminators, of both kinds."""

    def __init__(self):
        super().__init__()
        self.discriminators = nn.ModuleList([Period(), Resolution()])

    def forward(self, x):
        return [D(x) for D in self.discriminators]


def test_what_sees_all_of_the_time_is_as_the_layers_before_it(vocoder):
    torch.manual_seed(0)
    D = Both().eval()
    wide = nn.Conv2d(6, 7, (3, 21), padding=(1, 10))
    D.discriminators[1].convs[1] = wide
    short = MEL[..., :8]
    names = ["discriminators.0.convs.1", "discriminators.1.convs.0", "discriminators.1.convs.1"]
    links = [("up", name) for name in names]
    with fbwrap.attach(vocoder, D, links, example=short, response="[0]") as loop:
        layouts = [connection.sources[0].form.layout for connection in loop.connections]
    assert layouts == ["channels_first", "frequency_time", "frequency_time"]


def test_rows_of_a_period_are_read_one_after_the_other(vocoder):
    with fbwrap.attach(vocoder, Period().eval(), [("up", "convs.0")], example=MEL) as loop:
        assert loop.connections[0].sources[0].form.layout == "channels_first"


def test_what_d_is_called_with_gets_all_of_gs_output_on_equal_random_numbers():
    class Named(Vocoder):
        def forward(self, mel):
            return {"name": "wav", "wav": super().forward(mel)}

    torch.manual_seed(0)
    G, D = Named().eval(), Resolution().eval()
    asked = []

    def shown(out, mel):
        asked.append(out["name"])
        return out["wav"] + 0.05 * torch.randn_like(out["wav"])

    with fbwrap.attach(G, D, [("up", "convs.1")], example=MEL, critic_input=shown, response="[0]") as loop:
        assert loop.connections[0].sources[0].form.layout == "frequency_time"
    assert set(asked) == {"wav"}


def test_a_d_that_refuses_other_signals_is_read_as_before(vocoder):
    class Choosy(Resolution):
        calls = 0

        def forward(self, x):
            Choosy.calls += 1
            if Choosy.calls > 1:
                raise ValueError("no such signal")
            return super().forward(x)

    with fbwrap.attach(vocoder, Choosy().eval(), [("up", "convs.1")], example=MEL, response="[0]") as loop:
        assert loop.connections[0].sources[0].form.layout == "channels_first"


class Wide(Period):
    """A period critic whose kernels see the neighbouring phases, too."""

    def __init__(self, turned=False):
        super().__init__(5)
        self.turned = turned
        self.convs = nn.ModuleList([nn.Conv2d(1, 6, (5, 3), (3, 1), (2, 1)), nn.Conv2d(6, 7, (5, 3), (3, 1), (2, 1))])
        self.post = nn.Conv2d(7, 1, (3, 1), padding=(1, 0))
        if turned:
            self.convs = nn.ModuleList(
                [nn.Conv2d(1, 6, (3, 5), (1, 3), (1, 2)), nn.Conv2d(6, 7, (3, 5), (1, 3), (1, 2))]
            )

    def forward(self, x):
        x = F.pad(x, (0, -x.shape[-1] % self.period)).unflatten(-1, (-1, self.period))
        x = x.transpose(2, 3) if self.turned else x
        for layer in self.convs:
            x = F.leaky_relu(layer(x), 0.1)
        return self.post(x).flatten(1)


@pytest.mark.parametrize("turned", [False, True])
def test_a_fold_stays_one_however_wide_its_kernels(vocoder, turned):
    links = [("up", "convs.0"), ("up", "convs.1")]
    with fbwrap.attach(vocoder, Wide(turned).eval(), links, example=MEL) as loop:
        assert {s.form.layout for c in loop.connections for s in c.sources} == {"channels_first"}


def test_a_g_of_maps_gets_maps():
    class Inverse(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

        def forward(self, x):
            return self.last(self.inner(x[:, None])).flatten(2)

    with fbwrap.attach(Inverse().eval(), Resolution().eval(), ["inner"], example=MEL, response="[0]") as loop:
        (source,) = loop.connections[0].sources
        assert (source.form.layout, len(source.form.spatial)) == ("channels_first", 2)


def test_the_head_keeps_the_layout_and_longer_signals_fit(vocoder, tmp_path):
    D = Resolution().eval()
    with stir(fbwrap.attach(vocoder, D, "auto", example=MEL, response="[0]")) as loop:
        assert {s.form.layout for c in loop.connections for s in c.sources} == {"frequency_time"}
        loop.save_pretrained(tmp_path)
        longer = torch.randn(1, 5, 48)
        wanted = loop(longer)
    with fbwrap.from_pretrained(tmp_path, vocoder, D) as again:
        assert torch.equal(again(longer), wanted)


def test_the_user_may_say_it(vocoder):
    link = fbwrap.Link("up", "convs.1", source_layout="channels_first")
    with fbwrap.attach(vocoder, Resolution().eval(), [link], example=MEL, response="[0]") as loop:
        assert loop.connections[0].sources[0].form.channels == 7
    with pytest.raises(SettingError, match="frequency_time"):
        fbwrap.Link("up", "convs.1", source_layout="spectrogram")
    with pytest.raises(SettingError, match="Layout 'frequency_time'"):
        fbwrap.Link("up", "convs.1", target_layout="frequency_time")
    with pytest.raises(PairingError, match="no spectrogram"):
        feature_spec_of((2, 3, 4), "frequency_time", 1)


def test_few_frequencies_are_few_bands():
    form = feature_spec_of((2, 3, 2, 9), "frequency_time", 1)
    assert form == FeatureSpec(6, (9,), "frequency_time")
    assert to_map(torch.arange(108.0).view(2, 3, 2, 9), form).shape == (2, 6, 9)


def test_what_does_not_tell_is_left_as_it_is():
    nothing = torch.zeros(4, 8, dtype=torch.bool)
    everything = torch.ones(4, 8, dtype=torch.bool)
    assert layout_of(nothing, nothing) is None
    assert layout_of(everything, everything) is None, "a norm over time, say"
    late, one = torch.zeros(8, 4, dtype=torch.bool), torch.zeros(8, 4, dtype=torch.bool)
    late[6:], one[6, 2] = True, True
    assert layout_of(late, one) == "channels_first", "folded: one value is in one column"
    one[6] = True
    assert layout_of(late, one) == "time_frequency"
    assert layout_of(late.T, one.T) == "frequency_time"
