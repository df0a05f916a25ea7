"""Every sampler that ComfyUI lists, on the trained tiny Flux; docs/samplers.md has the numbers."""

import re
from unittest.mock import create_autospec

import comfy.samplers
import pytest
import torch
from conftest import PACK
from models import build, decoder, sample_tiny, trained_flux
from samplers import PROMISE, measure
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.samplers import generators_kept
from speca_pack.speca_core import SpecaConfig

SAMPLERS = comfy.samplers.KSampler.SAMPLERS
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)
# ComfyUI's dpm_fast and dpm_adaptive.
pytestmark = pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")

# Fresh noise at every step: forecasts are off by more than 100 %. That is noticed before any is
# tried. CFG++ needs the model's answer to each prompt.
PLAIN = re.compile("ancestral|(?<!er)_sde|lcm|ddpm|seeds|cfg_pp")
SHARP = re.compile("er_sde|sa_solver")  # steps that turn sharply: few drafts pass


@pytest.fixture(scope="module")
def flux():
    return trained_flux()


@pytest.fixture(scope="module")
def tiny():
    return build("flux")


@pytest.fixture(scope="module")
def decode():
    return decoder()


@every_sampler
def test_threshold_zero_is_plain_with_the_same_noise(tiny, sampler):
    plain = sample_tiny(tiny, "flux", steps=12, cfg=1.5, sampler=sampler)
    assert torch.equal(
        sample_tiny(
            accelerate(tiny, SpecaConfig(threshold=0.0)), "flux", steps=12, cfg=1.5, sampler=sampler
        ),
        plain,
    )
    # Rejected drafts must not be seen either: neither by a stateful solver nor by the noise.
    assert torch.equal(
        sample_tiny(
            accelerate(tiny, SpecaConfig(threshold=1e-12)),
            "flux",
            steps=12,
            cfg=1.5,
            sampler=sampler,
        ),
        plain,
    )


@every_sampler
def test_checked_drafts(flux, decode, sampler):
    made = measure(flux, decode, sampler, batch=1)
    assert made.finite
    if PLAIN.search(sampler):
        assert made.drafted == made.rejected == 0 and made.psnr == [100.0]
    elif not SHARP.search(sampler):
        assert made.drafted > 0.1, "a smooth sampler's drafts are refused"
    assert min(made.psnr) >= PROMISE, made


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_generators_of_every_device_are_kept(monkeypatch, kind):
    """With PyTorch's own signatures: that of MPS takes no device."""
    module, device = getattr(torch, kind), torch.device(kind)
    where = () if kind == "mps" else (device,)
    read, write = (create_autospec(getattr(module, f"{name}_rng_state")) for name in ("get", "set"))
    read.return_value = torch.tensor([7])
    monkeypatch.setattr(module, "get_rng_state", read)
    monkeypatch.setattr(module, "set_rng_state", write)
    before = torch.get_rng_state()
    with generators_kept(device):
        torch.rand(1)
    read.assert_called_once_with(*where)
    write.assert_called_once_with(read.return_value, *where)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["cpu", "privateuseone"])
def test_devices_without_a_generator_of_their_own(kind):
    before = torch.get_rng_state()
    with generators_kept(torch.device(kind)):
        torch.rand(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_page_lists_every_sampler():
    page = (PACK / "docs/samplers.md").read_text(encoding="utf-8")
    plain = page.partition("bit for bit: ")[2].partition(".")[0].split(", ")
    listed = [*re.findall(r"^\| (\w+) \| \d", page, re.M), *map(str.strip, plain)]
    assert sorted(listed) == sorted(SAMPLERS), "python tests/comfy/samplers.py prints the table"
