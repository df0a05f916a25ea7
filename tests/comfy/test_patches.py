"""SpeCa on a model that other nodes have patched."""

import pytest
import torch
from comfy_extras import (
    nodes_apg,
    nodes_cfg,
    nodes_eps,
    nodes_fresca,
    nodes_mahiro,
    nodes_model_advanced,
    nodes_model_merging,
    nodes_nag,
    nodes_pag,
    nodes_rope,
    nodes_slg,
    nodes_tcfg,
)
from graphs import (
    LAX,
    assert_harmless,
    assert_untouched,
    every_verifier,
    ksampler,
    with_lora,
    with_node,
)
from models import build, features, sample_tiny, trained_flux
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find


@pytest.fixture(scope="module")
def flux():
    return trained_flux()


def with_input_patch(model):
    """What USO sets: a patch of the tokens that the first block gets."""
    model = model.clone()

    def add(args):
        args["img"] += 0.1 * args["img"].mean(dim=1, keepdim=True)
        return args

    model.set_model_post_input_patch(add)
    return model


def with_attention_patch(model):
    """What many packs set: a patch of the attention's query, and one of its output."""
    model = model.clone()
    model.set_model_attn1_patch(
        lambda q, k, v, pe=None, attn_mask=None, extra_options=None: {
            "q": 1.02 * q,
            "k": k,
            "v": v,
            "pe": pe,
        }
    )
    model.set_model_attn1_output_patch(lambda out, extra: 0.98 * out)
    return model


def with_replaced_block(model):
    """A block replaced by a function that calls the original one."""
    model = model.clone()

    def half(args, extra):
        before = args["img"].clone()  # Flux's blocks write into their input
        out = extra["original_block"](args)
        return {"img": 0.5 * (before + out["img"]), "txt": out["txt"]}

    model.set_model_patch_replace(half, "dit", "double_block", 2)
    return model


def with_block_called_by_position(model):
    """A block replaced by a function that calls the model's block itself, with its arguments by
    position where the model uses keywords."""
    model = model.clone()

    def call(args, _):
        block = model.model.diffusion_model.double_blocks[1]
        img, txt = block(args["img"], args["txt"], args["vec"], args["pe"], args["attn_mask"])
        return {"img": 1.02 * img, "txt": txt}

    model.set_model_patch_replace(call, "dit", "double_block", 1)
    return model


def with_half_a_lora(model):
    """The model merged with itself and a LoRA."""
    return nodes_model_merging.ModelMergeSimple().merge(model, with_lora(model), 0.5)[0]


PATCHES = {
    "lora": with_lora,
    "input patch": with_input_patch,
    "attention patch": with_attention_patch,
    "replaced block": with_replaced_block,
    "block called by position": with_block_called_by_position,
    "NAG": with_node(nodes_nag.NAGuidance, 3.0, 0.3, 2.5),
    "skip layer guidance": with_node(nodes_slg.SkipLayerGuidanceDiT, 2.0, 0.0, 1.0, "1", "2,3"),
    "skip layer guidance, simple": with_node(
        nodes_slg.SkipLayerGuidanceDiTSimple, 0.0, 0.5, "1", "2,3"
    ),
    "perturbed attention guidance": with_node(nodes_pag.PerturbedAttentionGuidance, 1.0),
    "APG": with_node(nodes_apg.APG, 0.8, 8.0, 0.2),
    "CFG-Zero*": with_node(nodes_cfg.CFGZeroStar),
    "CFGNorm": with_node(nodes_cfg.CFGNorm, 0.9),
    "TCFG": with_node(nodes_tcfg.TCFG),
    "FreSca": with_node(nodes_fresca.FreSca, 1.0, 1.2, 4),
    "Mahiro": with_node(nodes_mahiro.Mahiro),
    "TSR": with_node(nodes_eps.TemporalScoreRescaling, 0.95, 1.0),
    "epsilon scaling": with_node(nodes_eps.EpsilonScaling, 1.005),
    "RescaleCFG": with_node(nodes_model_advanced.RescaleCFG, 0.7),
    "ModelSamplingFlux": with_node(nodes_model_advanced.ModelSamplingFlux, 1.15, 0.5, 128, 128),
    "scaled rope": with_node(nodes_rope.ScaleROPE, 1.1, 0.0, 1.1, 0.0, 1.0, 0.0),
    "merged models": with_half_a_lora,
}

GUIDANCE = (
    "skip layer guidance",
    "skip layer guidance, simple",
    "perturbed attention guidance",
    "APG",
    "CFG-Zero*",
    "CFGNorm",
    "TCFG",
    "FreSca",
    "Mahiro",
    "TSR",
    "epsilon scaling",
    "RescaleCFG",
)  # those of them that change guidance


@pytest.fixture(scope="module")
def unpatched(flux):
    return ksampler(flux)


@pytest.mark.goes_with(
    "SLG, PAG, APG, CFG-Zero*, RescaleCFG and other changes of guidance",
    "yes, before or after SpeCa. No profile serves",
)
@pytest.mark.goes_with(
    "patches of attention and blocks, merged models, NAG, ModelSamplingFlux",
    "yes, before or after SpeCa",
)
@pytest.mark.parametrize("name", PATCHES)
def test_patched_models(flux, unpatched, name):
    """SpeCa last, as the graph is usually built; and first, with the same result."""
    patch = PATCHES[name]
    # Its guidance is measured to be stronger than the CFG scale that it works on.
    config = features(threshold=1.0) if name == "APG" else LAX
    plain, last = assert_harmless(lambda wrap: ksampler(wrap(patch(flux))), flux, config=config)
    assert not torch.equal(plain, unpatched), "the patch did nothing"
    first = ksampler(patch(accelerate(flux, config)))
    assert torch.equal(first, last), "where SpeCa sits in the row of patches must not matter"
    assert_untouched(lambda wrap: ksampler(wrap(patch(flux))), served=name not in GUIDANCE)


@every_verifier
@pytest.mark.parametrize("blocks", [("0", "0"), ("3", "11")], ids=["the first", "the last"])
def test_skip_layer_guidance_of_the_very_block_that_a_verifier_runs(flux, verifier, blocks):
    """The extra pass leaves that block out, so a draft of it cannot be checked, and none may be
    served unchecked."""
    patched = nodes_slg.SkipLayerGuidanceDiT.execute(flux, 2.0, 0.0, 1.0, *blocks).result[0]
    report = find(ksampler(accelerate(patched, features(1.0, verifier=verifier))))
    assert report.count("accepted") > 0
    for call in report.calls:
        assert all(row.error is not None for row in call.rows if row.verdict == "accepted")


@every_verifier
@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "into a new tensor"])
def test_a_patch_after_every_block(verifier, in_place):
    """What ControlNets for Qwen-Image set; Flux never calls such a patch."""
    model, blocks = build("qwen"), []
    unpatched = sample_tiny(model, "qwen")

    def add(args):
        blocks.append(args["block_index"])
        more = 0.1 * args["img"].mean(dim=1, keepdim=True)
        if in_place:
            args["img"] += more
            return args
        return {**args, "img": args["img"] + more}

    patched = model.clone()
    patched.set_model_double_block_patch(add)
    plain, _ = assert_harmless(
        lambda wrap: sample_tiny(wrap(patched), "qwen"),
        model,
        config=features(threshold=1.0, verifier=verifier),
        max_distance=1.0,
    )
    assert set(blocks) == {0, 1, 2} and not torch.equal(plain, unpatched)
