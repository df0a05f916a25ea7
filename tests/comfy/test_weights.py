"""SpeCa on weights that are quantised, of half precision, or too large for the device."""

import comfy.model_patcher
import comfy.ops
import comfy.sd
import pytest
import torch
from graphs import assert_harmless, assert_untouched, ksampler, with_lora
from models import PACK, build, features, sample_tiny, trained_flux

FLUX = str(PACK / "demo/models/diffusion_models/flux_tiny.safetensors")
linear = torch.nn.functional.linear


class Packed(comfy.ops.disable_weight_init):
    """Weights kept as int8 with one scale per row and unpacked when they are used, as GGUF loaders
    do it."""

    class Linear(comfy.ops.disable_weight_init.Linear):
        def forward(self, x):
            if not hasattr(self, "packed"):
                weight = self.weight.float()
                self.scale = weight.abs().amax(1, keepdim=True).clamp_min(1e-8) / 127
                self.packed = (weight / self.scale).round().to(torch.int8)
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return linear(x, (self.packed * self.scale).to(x.dtype), bias)


LOADS = {
    "float8 weights": {"dtype": torch.float8_e4m3fn},
    "own operations": {"custom_operations": Packed},
}


@pytest.mark.goes_with("float8 and other quantised weights", "yes")
@pytest.mark.parametrize("name", LOADS)
def test_quantised_weights(name):
    model = comfy.sd.load_diffusion_model(FLUX, model_options=dict(LOADS[name]))
    plain, _ = assert_harmless(lambda wrap: ksampler(wrap(model)), model)
    assert_untouched(lambda wrap: ksampler(wrap(model)))
    assert not torch.equal(plain, ksampler(trained_flux())), "the weights were not quantised"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype):
    def graph(wrap):
        return sample_tiny(wrap(model), "flux", cfg=1.0)

    model = build("flux")
    exact = graph(lambda model: model)
    model.set_model_compute_dtype(dtype)
    plain, _ = assert_harmless(graph, model, config=features(threshold=1.0), max_distance=1.0)
    assert not torch.equal(plain, exact), "the model was not computed in half precision"


@pytest.mark.goes_with("weights that do not fit into memory", "yes")
def test_weights_that_do_not_fit(monkeypatch):
    """Half of the weights stay where they are and are cast as they are used; the LoRA on them
    too."""
    model = comfy.sd.load_diffusion_model(FLUX)
    load, left_out = comfy.model_patcher.ModelPatcher.load, []

    def little_room(self, device_to=None, *_, **__):
        load(self, device_to, 6_000_000)
        left_out.append(
            sum(hasattr(module, "prev_comfy_cast_weights") for module in self.model.modules())
        )

    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "load", little_room)
    assert_harmless(lambda wrap: ksampler(wrap(with_lora(model))), model)
    assert_untouched(lambda wrap: ksampler(wrap(with_lora(model))))
    assert left_out and min(left_out) > 10
