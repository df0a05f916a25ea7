"""The trained tiny Wan: what SpeCa does to each frame, and from frame to frame. The worst frame
decides."""

import comfy.latent_formats
import comfy.sample
import comfy.sd
import pytest
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from models import PACK, caption, decoder, features
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find

CLIPS = (
    "a big red circle moving right on blue plain",
    "a big yellow star moving down on purple stripes",
    # Fmt: skip.
    "a small white ring moving up on black plain",
    "a big blue square moving up on yellow dots",
)


@pytest.fixture(scope="module")
def wan():
    model = comfy.sd.load_diffusion_model(
        str(PACK / "demo/models/diffusion_models/wan_tiny.safetensors")
    )
    return ModelSamplingSD3().patch(model, 3.0)[0]


def sample(model, clip, steps=30, cfg=3.0, seed=100):
    """One clip of five latent frames, [1, 16, 5, 8, 8]."""
    blank = torch.zeros(1, 16, 5, 8, 8)
    noise = comfy.sample.prepare_noise(blank, seed)
    return comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        "euler",
        "simple",
        caption(clip),
        caption(""),
        blank,
        disable_pbar=True,
        seed=seed,
    )


def frames(model, latent, decode):
    """[frames, height, width, 3] in 0..1; the frames are decoded one by one, by the decoder of
    pictures."""
    inner = model.model.latent_format.process_in(latent)[0].transpose(0, 1)
    return decode(comfy.latent_formats.Flux().process_out(inner)).clamp(0, 1)


def psnr_per_frame(clip, plain):
    return [
        (-10 * torch.log10((a - b).square().mean().clamp_min(1e-10))).item()
        for a, b in zip(clip, plain, strict=True)
    ]


def flicker(clip, plain):
    """RMS of the difference between the two clips' changes from frame to frame: what moves that
    should not, 0..1."""
    return ((clip[1:] - clip[:-1]) - (plain[1:] - plain[:-1])).square().mean().sqrt().item()


def test_the_measures():
    """A clip that is off by the same everywhere does not flicker; one whose every other frame is
    off does."""
    plain = torch.rand(6, 8, 8, 3, generator=torch.Generator().manual_seed(0)) * 0.5
    shifted, blinking = plain + 0.1, plain + 0.1 * (torch.arange(6) % 2)[:, None, None, None]
    assert flicker(shifted, plain) < 1e-6 and abs(flicker(blinking, plain) - 0.1) < 1e-6
    assert psnr_per_frame(shifted, plain) == pytest.approx([20.0] * 6, abs=1e-3)
    assert (
        min(psnr_per_frame(blinking, plain)) == pytest.approx(20.0, abs=1e-3)
        and max(psnr_per_frame(blinking, plain)) == 100
    )


@pytest.fixture(scope="module")
def made(wan):
    """For each clip: plain, accelerated, and plain with as many evaluations as the accelerated run
    computed; and the report."""
    decode, clips = decoder(), []
    for i, clip in enumerate(CLIPS):
        plain, latent = (
            sample(wan, clip, seed=100 + i),
            sample(accelerate(wan, features()), clip, seed=100 + i),
        )
        report = find(latent)
        fewer = sample(wan, clip, steps=(report.rows - report.count("accepted")) // 2, seed=100 + i)
        clips.append((*(frames(wan, x, decode) for x in (plain, latent, fewer)), report))
    return clips


def test_the_worst_frame(made):
    for plain, fast, fewer, report in made:
        frames_db, fewer_db = psnr_per_frame(fast, plain), psnr_per_frame(fewer, plain)
        assert report.count("accepted") >= 0.4 * report.rows
        assert min(frames_db) >= 25, frames_db
        assert min(frames_db) > min(fewer_db) + 3, (frames_db, fewer_db)


def test_nothing_flickers(made):
    """Errors that jump from frame to frame would show here: they stay far below what really moves,
    and below fewer steps."""
    for plain, fast, fewer, _ in made:
        motion = (plain[1:] - plain[:-1]).square().mean().sqrt().item()
        assert flicker(fast, plain) < 0.2 * motion
        assert flicker(fast, plain) < 0.6 * flicker(fewer, plain)
