"""The trained tiny Flux in ComfyUI's own sampler: the picture, the samplers, the batch."""

import logging
import math
from types import SimpleNamespace

import comfy.model_management
import comfy.sample
import comfy.samplers
import pytest
import torch
from models import CAPTIONS, caption, decoder, features, psnr, sample_flux, trained_flux
from speca_pack.nodes.runtime.attach import KEY, accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.samplers import NAMES, response_of
from speca_pack.speca_core.budgets import Interval
from speca_pack.speca_core.sampler_response import LongStep
from speca_pack.speca_core.verifiers import Embedded, FirstBlock, LastBlock, NoCheck


@pytest.fixture(scope="module")
def flux():
    return trained_flux()


@pytest.fixture(scope="module")
def plain(flux):
    return sample_flux(flux)


def test_threshold_zero_is_plain(flux, plain):
    assert torch.equal(sample_flux(accelerate(flux, features(threshold=0.0))), plain)


def test_the_default_settings_keep_the_picture_and_save_evaluations(flux, plain):
    decode = decoder()
    latent = sample_flux(accelerate(flux, features()))
    report = find(latent)
    assert min(psnr(decode(latent), decode(plain))) >= 30
    assert report.rows / (report.rows - report.count("accepted")) > 1.3


def test_images_of_a_batch_decide_for_themselves(flux):
    """One image rejected while the other is accepted; each equals itself run alone."""
    noise = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(11))
    fast = accelerate(flux, features())
    together = sample_flux(fast, noise=noise)
    verdicts = [
        [{r.verdict for r in call.rows if r.image == image} for image in (0, 1)]
        for call in find(together).calls
    ]
    assert any(a != b for a, b in verdicts), "the two images never differed; choose another seed"
    for image in (0, 1):
        alone = sample_flux(fast, batch=1, noise=noise[image : image + 1])
        assert [v[image] for v in verdicts] == [
            {r.verdict for r in call.rows} for call in find(alone).calls
        ]
        torch.testing.assert_close(together[image : image + 1], alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "heun", "dpm_2", "res_multistep"])
def test_samplers(flux, sampler):
    """Each sampler's calls are answered; threshold zero stays bit-identical, drafts stay finite."""
    plain = sample_flux(flux, sampler=sampler, steps=12, batch=1)
    assert torch.equal(
        sample_flux(
            accelerate(flux, features(threshold=1e-12)), sampler=sampler, steps=12, batch=1
        ),
        plain,
    )
    latent = sample_flux(
        accelerate(flux, features(threshold=1.0, verifier=LastBlock())),
        sampler=sampler,
        steps=12,
        batch=1,
    )
    assert torch.isfinite(latent).all()
    assert find(latent).count("accepted") > 0


def test_noise_that_no_forecast_can_foresee_is_noticed(flux):
    """An ancestral sampler adds fresh noise at every step: forecasts are off by more than 100 %,
    and none is worth a try."""
    latent = sample_flux(
        accelerate(flux, features(threshold=1.0)), sampler="euler_ancestral", steps=12, batch=1
    )
    reasons = [call.rows[0].reason for call in find(latent).calls]
    assert reasons[:10] == ["warmup"] * 2 + ["jump"] * 8
    assert set(reasons[10:]) <= {"jump", "anchors", "last_step"}, (
        "towards the end there is less noise than movement"
    )
    assert torch.equal(latent, sample_flux(flux, sampler="euler_ancestral", steps=12, batch=1))


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_guidance_off_and_on(flux, cfg):
    report = find(sample_flux(accelerate(flux, features()), cfg=cfg))
    assert {row.branch for call in report.calls for row in call.rows} == (
        {0} if cfg == 1.0 else {0, 1}
    )


def test_branches_in_separate_calls(flux, monkeypatch):
    """Too little memory for cond and uncond in one batch: each then comes in its own call."""
    plain = sample_flux(flux)
    fast = accelerate(flux, features(threshold=0.05))
    monkeypatch.setattr(flux.model, "memory_required", lambda *a, **k: 1e18)
    apart = sample_flux(fast)
    report = find(apart)
    assert (
        all(len({row.branch for row in call.rows}) == 1 for call in report.calls)
        and len(report.calls) == 56
    )
    assert report.count("accepted") > 0
    torch.testing.assert_close(
        sample_flux(accelerate(flux, features(threshold=0.0))), plain, rtol=1e-3, atol=1e-3
    )


def test_one_model_in_two_samplers_keeps_two_runs(flux):
    fast = accelerate(flux, features())
    first, second = sample_flux(fast, seed=1, steps=12), sample_flux(fast, seed=2, steps=20)
    assert find(first).steps == 12 and find(second).steps == 20
    assert torch.equal(sample_flux(fast, seed=1, steps=12), first)


def test_partial_denoise(flux, plain):
    fast = accelerate(flux, features())
    latent = torch.zeros(2, 16, 16, 16)
    noise = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    import comfy.sample
    from models import caption

    result = comfy.sample.sample(
        fast,
        noise,
        20,
        3.0,
        "euler",
        "simple",
        caption(CAPTIONS[0]),
        caption(""),
        plain,
        denoise=0.5,
        disable_pbar=True,
        seed=1,
    )
    assert (
        find(result).steps == 20
        and find(result).calls[0].sigma < 0.95
        and result.shape == latent.shape
    )


def test_bfloat16(flux):
    half = flux.clone()
    half.set_model_compute_dtype(torch.bfloat16)
    settings = {"steps": 8, "batch": 1, "cfg": 1.0}  # bfloat16 is slow on most CPUs
    plain = sample_flux(half, **settings)
    assert not torch.equal(plain, sample_flux(flux, **settings)), "this run was not in bfloat16"
    assert torch.equal(
        sample_flux(accelerate(half, features(threshold=1e-12, verifier=FirstBlock())), **settings),
        plain,
    )
    latent = sample_flux(accelerate(half, features(threshold=1.0)), **settings)
    assert torch.isfinite(latent).all() and find(latent).count("accepted") > 0


def test_interrupting_leaves_nothing_behind(flux):
    fast = accelerate(flux, features())
    expected = sample_flux(fast)

    def interrupt(step, *_):
        if step == 9:
            comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample_flux(fast, callback=interrupt)
    assert "double_blocks" not in vars(flux.model.diffusion_model) and "final_layer" not in vars(
        flux.model.diffusion_model
    )
    assert KEY not in fast.model_options["transformer_options"]
    assert torch.equal(sample_flux(fast), expected)


def test_two_nodes_in_a_row_the_later_wins(flux, caplog):
    first = accelerate(flux, features(threshold=0.0))
    with caplog.at_level(logging.WARNING, "speca"):
        second = accelerate(first, features(threshold=math.inf))
    assert "the later node's settings are used" in caplog.text
    report = find(sample_flux(second))
    assert report.settings["threshold"] == math.inf and report.count("accepted") > 0


def test_one_log_line_per_run(flux, caplog):
    with caplog.at_level(logging.INFO, "speca"):
        sample_flux(accelerate(flux, features()), steps=12)
    assert (
        len([r for r in caplog.records if r.name == "speca"]) == 1
        and "evaluations skipped" in caplog.text
    )


ONCE = (
    "ddim",
    "deis",
    "dpmpp_2m",
    "euler",
    "gradient_estimation",
    "ipndm",
    "ipndm_v",
    "lms",
    "res_multistep",
    "uni_pc",
    "uni_pc_bh2",
)
TWICE = ("heun", "dpm_2", "exp_heun_2_x0")


@pytest.mark.parametrize(
    ("sampler", "repaired"),
    [*((name, True) for name in (*ONCE, *TWICE)), ("heunpp2", False), ("sa_solver", False)],
)
def test_hindsight_only_where_the_sampler_is_known(flux, sampler, repaired):
    on, off = (
        sample_flux(
            accelerate(flux, features(threshold=1.0, hindsight=hindsight)),
            sampler=sampler,
            steps=12,
            batch=1,
            cfg=1.0,
        )
        for hindsight in (True, False)
    )
    assert torch.equal(on, off) != repaired
    assert (find(on).repaired > 0) == repaired and find(off).repaired == 0


@pytest.mark.parametrize(
    ("level", "sampler"),
    [
        *(("features", name) for name in ("euler", "dpmpp_2m", "uni_pc", *TWICE)),
        ("prediction", "euler"),
    ],
)
def test_hindsight_brings_the_picture_closer(flux, level, sampler):
    decode = decoder()
    plain = decode(sample_flux(flux, cfg=1.0, sampler=sampler))
    on, off = (
        psnr(
            decode(
                sample_flux(
                    accelerate(flux, features(hindsight=h, level=level)), cfg=1.0, sampler=sampler
                )
            ),
            plain,
        )
        for h in (True, False)
    )
    assert sum(on) / len(on) > sum(off) / len(off) + 1


def test_trying_the_sampler_out_does_not_write_into_the_schedule(flux):
    """uni_pc does."""
    sigmas = torch.tensor([1.0, 0.7, 0.4, 0.1, 0.0])
    assert (
        response_of(
            comfy.samplers.sampler_object("uni_pc"), SimpleNamespace(model_patcher=flux), sigmas
        )
        and sigmas[-1] == 0
    )


@pytest.mark.parametrize("steps", [3, 6, 20])
def test_where_a_long_step_of_each_sampler_goes(flux, steps):
    sigmas = comfy.samplers.calculate_sigmas(
        flux.get_model_object("model_sampling"), "simple", steps
    )
    found = {
        name: response_of(
            comfy.samplers.sampler_object(name), SimpleNamespace(model_patcher=flux), sigmas
        ).long_step
        for name in NAMES
    }
    looks_back = "dpmpp_2m", "res_multistep", "deis", "ipndm", "ipndm_v", "lms"
    others = dict.fromkeys(NAMES, LongStep.EULER) | {"heun": LongStep.HEUN}
    assert found == others | dict.fromkeys(looks_back, LongStep.MULTISTEP)


def test_a_sampler_that_may_remember_being_tried_is_not_tried(flux):
    function, calls = comfy.samplers.sampler_object("res_multistep").sampler_function, []
    sampler = comfy.samplers.KSAMPLER(function, {"noise_sampler": lambda *_: calls.append(1)})
    sigmas = torch.tensor([1.0, 0.7, 0.4, 0.1, 0.0])
    assert response_of(sampler, SimpleNamespace(model_patcher=flux), sigmas) is None and not calls


def test_a_trial_that_fails_is_said_and_is_no_reason_for_the_run_to_fail(flux, caplog):
    """CFG++ needs what only a run has."""
    sampler = comfy.samplers.KSAMPLER(
        comfy.samplers.sampler_object("gradient_estimation").sampler_function, {"cfg_pp": True}
    )
    assert (
        response_of(sampler, SimpleNamespace(model_patcher=flux), torch.tensor([1.0, 0.5, 0.0]))
        is None
    )
    assert "trying the sampler out" in caplog.text


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        ("euler", {"s_churn": 5.0}),
        ("heun", {"s_churn": 5.0}),
        ("lms", {"order": 2}),
        ("gradient_estimation", {"cfg_pp": True}),
    ],
)
def test_trying_the_sampler_out_leaves_the_run_alone(flux, sampler, options):
    """Churn draws noise, which the run must get; CFG++ fails outside a run."""

    def sample(model):
        chosen = comfy.samplers.KSAMPLER(
            comfy.samplers.sampler_object(sampler).sampler_function, options
        )
        sigmas = comfy.samplers.calculate_sigmas(
            model.get_model_object("model_sampling"), "simple", 8
        )
        noise = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(1)
        text, latent = caption(CAPTIONS[0]), torch.zeros_like(noise)
        return comfy.sample.sample_custom(
            model, noise, 1.0, chosen, sigmas, text, text, latent, disable_pbar=True, seed=1
        )

    assert torch.equal(sample(accelerate(flux, features(threshold=0.0))), sample(flux))


@pytest.mark.parametrize("level", ["features", "prediction"])
def test_both_levels_keep_the_picture(flux, level):
    decode = decoder()
    plain = sample_flux(flux)
    assert torch.equal(sample_flux(accelerate(flux, features(threshold=1e-12, level=level))), plain)
    latent = sample_flux(accelerate(flux, features(level=level)))
    assert find(latent).count("accepted") > 10 and min(psnr(decode(latent), decode(plain))) >= 30


def test_a_drafted_prediction_runs_nothing_and_images_decide_for_themselves(flux):
    noise = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(13))
    evaluated = []
    fast = accelerate(flux, features(level="prediction"))
    # A wrapper there might look at the rows, and images would decide together.
    hook = flux.model.diffusion_model.register_forward_pre_hook(
        lambda module, inputs: evaluated.append(len(inputs[0]))
    )
    together = sample_flux(fast, noise=noise)
    hook.remove()
    report = find(together)
    computed = [[r.verdict != "accepted" for r in call.rows] for call in report.calls]
    assert sum(evaluated) == 2 * sum(map(sum, computed)), (
        "cond and uncond of computed images, and nothing else"
    )
    assert [True, False] in computed or [False, True] in computed, (
        "the two images never differed; choose another seed"
    )
    for image in (0, 1):
        alone = sample_flux(fast, batch=1, noise=noise[image : image + 1])
        assert [v[image] for v in computed] == [
            call.rows[0].verdict != "accepted" for call in find(alone).calls
        ]
        torch.testing.assert_close(together[image : image + 1], alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "verifier", [Embedded(), LastBlock(), FirstBlock(), NoCheck()], ids=lambda v: v.name
)
def test_tokens_that_come_and_go_during_a_run(flux, verifier):
    """A patch may add tokens at some steps, as reference caches do: anchors of another length are
    neither served nor compared."""
    lengths = []

    def longer(args):
        if 6 <= len(lengths) < 12:
            args = args | {
                name: torch.cat((args[name], args[name][:, :2]), dim=1)
                for name in ("img", "img_ids")
            }
        lengths.append(args["img"].shape[1])
        return args

    patched = flux.clone()
    patched.set_model_patch(longer, "post_input")
    plain = sample_flux(patched, steps=20, batch=1)
    assert len(set(lengths)) == 2
    lengths.clear()
    config = features(1.0, verifier=verifier, budget=Interval(interval=3))
    latent = sample_flux(accelerate(patched, config), steps=20, batch=1)
    report = find(latent)
    assert torch.isfinite(plain).all() and torch.isfinite(latent).all() and report.finished
    assert report.count("accepted") > 0 and report.count("rejected") > 0
