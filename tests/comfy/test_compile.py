"""SpeCa on a model that torch.compile compiles, as a whole or block by block."""

import shutil

import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from graphs import assert_untouched, left_behind
from models import build, features, sample_tiny
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find

# The eager backend generates no code; the default one writes C++, which takes minutes for a whole
# model.
generates = pytest.mark.skipif(
    not shutil.which("g++"),
    reason="torch's default backend generates C++, and there is no compiler",
)


@pytest.mark.goes_with("torch.compile", "yes, after SpeCa")
@pytest.mark.parametrize(
    ("backend", "what"),
    [
        ("eager", "whole"),
        ("eager", "per block"),
        pytest.param("inductor", "per block", marks=generates),
        pytest.param("inductor", "whole", marks=[generates, pytest.mark.long]),
    ],
)
def test_torch_compile(backend, what):
    """ComfyUI's wrapper around the whole model, and around each block."""
    model = build("flux")

    def compiled(patched):
        patched = patched.clone(disable_dynamic=True)
        blocks = [
            f"diffusion_model.{path}.{i}"
            for path, n in (("double_blocks", 2), ("single_blocks", 3))
            for i in range(n)
        ]
        set_torch_compile_wrapper(
            patched, backend, keys=["diffusion_model"] if what == "whole" else blocks
        )
        return patched

    bare = sample_tiny(accelerate(model, features(threshold=1.0)), "flux")
    latent = sample_tiny(compiled(accelerate(model, features(threshold=1.0))), "flux")
    assert find(latent).count("accepted") > 0
    if backend == "eager":
        assert_untouched(lambda wrap: sample_tiny(compiled(wrap(model)), "flux"))
    torch.testing.assert_close(latent, bare, rtol=1e-3, atol=1e-3)
    torch._dynamo.reset()
    assert not left_behind(model)
