"""What other packs do on the way: to guidance, to prompts, to rows. Drafts do not lose it."""

import copy
import functools
import itertools

import comfy.sample
import comfy.samplers
import pytest
import torch
from graphs import empty_latent, ksampler, prompts, relative_distance
from models import CAPTIONS, caption, checked, features, trained_flux
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.windows import marks_of
from speca_pack.speca_core import SpecaConfig

STEPS, IMAGES, CFG = 28, 4, 3.0
LEVELS = ("prediction", "features")


@pytest.fixture(scope="module")
def flux():
    return trained_flux()


def fast(model, level="prediction"):
    return accelerate(model, checked(level=level))


class Guider(comfy.samplers.CFGGuider):
    """Guidance whose scale is decided at each call."""

    scales = staticmethod(lambda call, sigma: CFG)

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        self.calls = getattr(self, "calls", 0) + 1
        negative, positive = self.conds["negative"], self.conds["positive"]
        scale = self.scales(self.calls, float(timestep.max()))
        return comfy.samplers.sampling_function(
            self.inner_model, x, timestep, negative, positive, scale, model_options or {}, seed=seed
        )


def sample(
    model, kind=comfy.samplers.CFGGuider, sampler="euler", sigmas=None, callback=None, **own
):
    """Four images of a guider of some kind, [4, 16, 16, 16]."""
    guider = kind(model)
    guider.set_conds(*prompts())
    guider.set_cfg(CFG)
    for name, value in own.items():
        setattr(guider, name, value)
    empty = torch.zeros(IMAGES, 16, 16, 16)
    noise = comfy.sample.prepare_noise(empty, 1)
    sigmas = torch.linspace(1, 0, STEPS + 1) if sigmas is None else sigmas
    sampler = comfy.samplers.sampler_object(sampler) if isinstance(sampler, str) else sampler
    return guider.sample(noise, empty, sampler, sigmas, callback=callback, disable_pbar=True)


def distances(made, plain):
    return [relative_distance(a, b) for a, b in zip(made, plain, strict=True)]


@pytest.fixture(scope="module")
def ordinary(flux):
    """How far the worst of four ordinary pictures is off; twice as far is 6 dB."""
    return max(distances(sample(fast(flux)), sample(flux)))


SCALES = {
    "half of the run without guidance": lambda call, sigma: CFG if sigma > 0.5 else 1.0,
    "guidance from a noise level on": lambda call, sigma: 1.0 if sigma > 0.85 else CFG,
    "another scale at each call": lambda call, sigma: (2.0, 4.0, 6.0)[call % 3],
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", SCALES)
def test_a_guider_that_changes_its_scale(flux, ordinary, name, level):
    scales = SCALES[name]
    plain = sample(flux, Guider, scales=scales)
    made = sample(fast(flux, level), Guider, scales=scales)
    report = find(made)
    assert report.count("accepted") and max(distances(made, plain)) < 2 * ordinary, report.summary


def test_a_guider_is_called_at_every_step(flux):
    heard = []
    sample(fast(flux), Guider, scales=lambda call, sigma: heard.append(sigma) or CFG)
    assert len(heard) == STEPS


class Adaptive(comfy.samplers.CFGGuider):
    """Guides until both prompts are answered alike, and saves the second answer from then on."""

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        negative, positive = self.conds["negative"], self.conds["positive"]
        inner, options = self.inner_model, model_options or {}
        if getattr(self, "alike", False):
            return comfy.samplers.calc_cond_batch(inner, [positive], x, timestep, options)[0]
        answers = comfy.samplers.calc_cond_batch(inner, [positive, negative], x, timestep, options)
        cond, uncond = ((x - answer).flatten(1) for answer in answers)
        self.alike = float(torch.cosine_similarity(cond, uncond).min()) > 0.99
        return answers[1] + CFG * (answers[0] - answers[1])


@pytest.mark.parametrize("level", LEVELS)
def test_a_guider_that_compares_answers(flux, ordinary, level):
    """On a draft it compares forecasts, and may decide a step off: half the tolerance."""
    made = sample(fast(flux, level), Adaptive)
    assert find(made).count("accepted") and find(made).trust == 0.5
    assert max(distances(made, sample(flux, Adaptive))) < 2 * ordinary


def test_the_untouched_node_under_a_guider_that_compares_answers(flux):
    """No profile serves such a guider; the threshold means as much as with one."""
    config = SpecaConfig()
    made = sample(accelerate(flux, config), Adaptive)
    assert find(made).count("accepted") and find(made).profile["state"] == "none"
    assert max(distances(made, sample(flux, Adaptive))) < config.threshold


@pytest.mark.parametrize("level", LEVELS)
def test_a_function_that_changes_the_scale(flux, ordinary, level):
    model = flux.clone()

    def function(args):
        scale = 1.0 if float(args["sigma"].max()) > 0.7 else 5.0
        return args["uncond"] + scale * (args["cond"] - args["uncond"])

    model.set_model_sampler_cfg_function(function)
    made = sample(fast(model, level))
    assert find(made).count("accepted")
    assert max(distances(made, sample(model))) < 2 * ordinary


@pytest.mark.parametrize("level", LEVELS)
def test_a_wrapper_that_swaps_the_prompt(flux, ordinary, level):
    model, other = flux.clone(), caption(CAPTIONS[1])[0][0]

    def swapped(apply, args):
        conds = dict(args["c"])
        if float(args["timestep"].max()) < 0.8:
            asked = conds["c_crossattn"].clone()
            for chunk, branch in enumerate(args["cond_or_uncond"]):
                if branch == 0:
                    asked[chunk * IMAGES : (chunk + 1) * IMAGES] = other
            conds["c_crossattn"] = asked
        return apply(args["input"], args["timestep"], **conds)

    model.set_model_unet_function_wrapper(swapped)
    made = sample(fast(model, level))
    assert find(made).count("accepted")
    assert max(distances(made, sample(model))) < 2 * ordinary


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("checks", [True, False])
def test_a_patch_with_one_reference_per_image(flux, ordinary, level, checks):
    """It finds its reference by the row's place; one that checks raises at any other number."""
    model = flux.clone()
    references = torch.randn(IMAGES, 1, 1, generator=torch.manual_seed(3))

    def patch(args, extra):
        made = extra["original_block"](args)
        image = made["img"]
        if checks and len(image) % IMAGES:
            raise ValueError(f"{len(image)} rows")
        rows = references.repeat(2, 1, 1)[: len(image)]
        return {"img": image * (1 + 0.1 * rows), "txt": made["txt"]}

    model.set_model_patch_replace(patch, "dit", "double_block", 0)
    made = sample(fast(model, level))
    assert find(made).count("accepted")
    assert max(distances(made, sample(model))) < 2 * ordinary


@pytest.mark.parametrize("level", LEVELS)
def test_a_model_that_cannot_do_with_some_images_gets_all_of_them(flux, level, caplog, monkeypatch):
    """Where nothing in the options tells of it."""
    model = accelerate(flux, checked(level=level))
    ordinary = max(distances(sample(model), sample(flux)))
    plain, before = sample(flux), type(flux.model)._apply_model

    def picky(self, x, *args, **kwargs):
        if len(x) % IMAGES:
            raise ValueError(f"{len(x)} rows")
        return before(self, x, *args, **kwargs)

    monkeypatch.setattr(type(flux.model), "_apply_model", picky)
    made = sample(model)
    assert find(made).count("accepted") and max(distances(made, plain)) < 2 * ordinary
    assert "cannot do with some of the images" in caplog.text


class Adapter:
    """Adds to the image's stream from one noise level down to another, as image prompts do."""

    def __init__(self, sigma_start, sigma_end):
        self.sigma_start, self.sigma_end = sigma_start, sigma_end
        self.strength = 0.25

    def __call__(self, args, extra):
        made = extra["original_block"](args)
        image, sigma = made["img"], float(args["transformer_options"]["sigmas"].max())
        if not self.sigma_end < sigma <= self.sigma_start:
            return made
        added = torch.randn(image.shape[-1], generator=torch.manual_seed(3))
        return {"img": image + self.strength * image.std() * added, "txt": made["txt"]}

    def on(self, model):
        model = model.clone()
        model.set_model_patch_replace(self, "dit", "double_block", 0)
        return model


class Shared(Adapter):
    """The same, until a share of the steps is done."""

    def __init__(self, end_percent):
        super().__init__(2, -1)
        self.end_percent = end_percent

    def __call__(self, args, extra):
        options = args["transformer_options"]
        sigma, sigmas = options["sigmas"].max(), options["sample_sigmas"]
        done = int((sigmas > sigma).sum()) / (len(sigmas) - 1)
        inside = done < self.end_percent
        return super().__call__(args, extra) if inside else extra["original_block"](args)


WINDOWS = (
    Adapter(1.1, 0.5),
    Adapter(1.1, 0.2),
    Adapter(0.6, 0.3),
    Shared(0.2),
    Shared(0.4),
    Shared(0.8),
)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("adapter", WINDOWS, ids=lambda a: str([*vars(a).values()]))
def test_no_draft_goes_across_the_bounds_of_an_adapter(flux, ordinary, adapter, level):
    """Where no profile knows of it."""
    model = adapter.on(flux)
    made = sample(accelerate(model, checked(level=level).without_profile))
    assert find(made).count("accepted") > STEPS // 2
    assert max(distances(made, sample(model))) < 2 * ordinary


def bounds(lo, hi):
    """A function that holds two bounds and a strength in its closure."""
    strength = 0.7

    def patch(args, extra):
        inside = lo <= args["sigma"] <= hi
        return {"img": args["img"] * strength if inside else args["img"]}

    return patch


@pytest.mark.parametrize(
    "held",
    [
        Adapter(0.8, 0.3),
        bounds(0.3, 0.8),
        functools.partial(print, end_sigma=0.3, start_sigma=0.8),
        Adapter(0.8, 0.3).__call__,
        [{"sigmas": [0.8, 0.3]}],
    ],
)
def test_bounds_are_found_wherever_they_are_held(held):
    options = {"patches_replace": {"dit": {("double_block", 0): held}}}
    assert marked(options, [1.0, 0.0]) == [0.8, 0.3]
    assert marked(options, [1.0, 0.4]) == [0.8]


def marked(options, sigmas):
    return [
        round(mark, 4) for mark in marks_of(options, [], sigmas, lambda share: (1 - share) ** 2)
    ]


@pytest.mark.parametrize(
    ("held", "marks"),
    [
        ({"end_percent": 0.5}, [0.575, 0.25]),  # as ComfyUI counts, and the share of the steps
        ({"start_at": 0.5, "end_at": 1.0}, [0.575, 0.25]),
        ({"end": 0.5}, [0.575, 0.5, 0.25]),  # or a level
        ({"start_step": 2, "end_at_step": 9, "seed_step": 3}, [0.75]),
        ({"end_block": 2}, []),
    ],
)
def test_bounds_are_shares_of_the_run_or_steps(held, marks):
    sigmas = [1.0, 0.9, 0.6, 0.55, 0.35, 0.1, 0.0]
    assert marked({"patches": {"attn1_patch": [held]}}, sigmas) == marks


def test_what_holds_no_bounds_has_no_marks():
    loop = {"strength": 0.5, "blend": 0.4}
    loop["self"] = loop
    for held in (loop, [{"end": 0.01 * i} for i in range(1, 99)], None, torch.ones(3), 0.5):
        assert marked({"patches": {"attn1_patch": [held]}}, [1.0, 0.0]) == []


class Pair(comfy.samplers.CFGGuider):
    """Answers with two latents, which its own sampler knows how to read."""

    def predict_noise(self, *args, **kwargs):
        made = super().predict_noise(*args, **kwargs)
        return made, made * 2


@torch.no_grad()
def pair_sampler(model, x, sigmas, extra_args=None, callback=None, disable=None):
    options = extra_args["model_options"]
    for sigma, following in itertools.pairwise(sigmas):
        first, second = model.inner_model(x, sigma.expand(len(x)), options)
        x = x + (x - second / 2) / sigma * (following - sigma)
        assert torch.equal(second, 2 * first)
    return x


@pytest.mark.parametrize("level", LEVELS)
def test_a_guider_that_answers_with_two_latents(flux, ordinary, level):
    sampler = comfy.samplers.KSAMPLER(pair_sampler)
    plain = sample(flux, Pair, sampler)
    made = sample(fast(flux, level), Pair, sampler)
    assert max(distances(made, plain)) < 2 * ordinary
    zero = accelerate(flux, checked(threshold=0.0, level=level))
    assert torch.equal(sample(zero, Pair, sampler), plain)


def test_the_last_step_of_a_schedule_that_comes_back_is_its_last(flux):
    down = torch.linspace(1, 0, 15)
    sigmas = torch.cat([down[:-3], down[6:]])
    report = find(sample(fast(flux), sigmas=sigmas))
    assert [row.reason for row in report.calls[-1].rows] == ["last_step"] * IMAGES
    assert report.calls[-1].position == len(sigmas) - 2


def test_previews_show_no_repairs(flux):
    """Hindsight repairs latents: the prediction that is shown is the one without."""

    def shown(model):
        kept = []
        sample(model, callback=lambda step, denoised, x, total: kept.append(denoised.clone()))
        return kept

    plain = shown(flux)

    def worst(hindsight):
        made = shown(accelerate(flux, checked(threshold=0.2, hindsight=hindsight)))
        return max(relative_distance(a, b) for a, b in zip(made, plain, strict=True))

    assert worst(hindsight=True) <= worst(hindsight=False)


def test_kept_options_hold_no_tensors(flux):
    """Some packs keep the options of a run, or copy them deeply in the middle of it."""
    model, kept, held = flux.clone(), [], []

    def keeping(executor, *args, **kwargs):
        options = executor.class_obj.model_options["transformer_options"]
        run = copy.deepcopy({"speca": options["speca"]})["speca"]
        assert run is options["speca"], "a run is one"
        kept.append({**options})
        held.append(run.session.cache_bytes)
        return executor(*args, **kwargs)

    model.add_wrapper_with_key("predict_noise", "keeper", keeping)
    ksampler(accelerate(model, features()), latent=empty_latent(1))
    assert max(held) > 0 and kept[-1]["speca"].session.cache_bytes == 0


def tensors_in(value, seen):
    """All tensors with numbers that an object of ours leads to; the model is ComfyUI's."""
    if isinstance(value, torch.Tensor):
        yield from [value] * bool(value.nbytes)
    elif id(value) not in seen:
        seen.add(id(value))
        inside = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list | tuple | set):
            for each in inside:
                yield from tensors_in(each, seen)
        elif type(value).__module__.startswith("speca_pack"):
            yield from tensors_in(vars(value) if hasattr(value, "__dict__") else (), seen)


@pytest.mark.parametrize("level", LEVELS)
def test_what_measures_foreign_guidance_is_let_go(flux, level):
    """Answers and prompts are held while the run lasts, and not by whoever keeps it."""
    model, kept, held = flux.clone(), [], []

    def keeping(executor, *args, **kwargs):
        run = executor.class_obj.model_options["transformer_options"]["speca"]
        made = executor(*args, **kwargs)
        kept.append(run)
        held.append(sum(1 for _ in tensors_in([run.meter, run.watch], set())))
        return made

    model.add_wrapper_with_key("predict_noise", "keeper", keeping)
    ksampler(accelerate(model, checked(level=level)), latent=empty_latent(1))
    assert max(held) > 0 and not [*tensors_in(kept[-1], set())]
