"""The model: ComfyUI's Flux class, trained by flow matching on the latents. Resumable."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.ops
import torch
import torch.nn.functional as F
from comfy.ldm.flux.layers import timestep_embedding
from comfy.ldm.flux.model import Flux
from safetensors.torch import save_file

from ..custom_nodes.speca_demo.words import VOCABULARIES
from .optimiser import Training

HEAD, WIDTH, DOUBLE, SINGLE = 128, 256, 2, 2
BATCH, RATES = 32, (0.01, 2e-3)  # of Muon and of AdamW
WORDS = VOCABULARIES["scenes"]
SAVE_EVERY, TELL_EVERY = 300.0, 180.0  # seconds


def build() -> Flux:
    """The model with fresh weights; blocks begin as the identity (adaLN-zero)."""
    model = Flux(
        dtype=torch.float32,
        device="cpu",
        operations=comfy.ops.disable_weight_init,
        image_model="flux",
        in_channels=16,
        out_channels=16,
        patch_size=2,
        vec_in_dim=WORDS.word_width,
        context_in_dim=WORDS.word_width + WORDS.place_width,
        hidden_size=WIDTH,
        mlp_ratio=4.0,
        num_heads=WIDTH // HEAD,
        depth=DOUBLE,
        depth_single_blocks=SINGLE,
        axes_dim=[16, 56, 56],
        theta=10000,
        qkv_bias=True,
        guidance_embed=True,
        txt_ids_dims=[],
    )
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
            elif is_modulation(name) or name == "final_layer.linear.weight":
                p.zero_()
            elif name == "txt_in.weight":
                p.normal_(std=0.5)  # an embedding table: its input is one-hot
            elif "_in." in name and name != "img_in.weight":
                p.normal_(std=0.05)
            else:
                torch.nn.init.xavier_uniform_(p)
    return model


def is_modulation(name: str) -> bool:
    """Whether a parameter makes shifts, scales and gates."""
    return any(part in name for part in ("_mod.lin", ".modulation.lin", "adaLN_modulation"))


# --- the forward, for training ----------------------------------------------------------------
#
# The class's own blocks write into their streams, which autograd refuses. These functions are the
# same mathematics over the same parameters; `check` compares both before training. Queries and keys
# are laid out in halves in place of pairs, which is several times faster on a CPU.


def relayout(values: dict[str, torch.Tensor], to_halves: bool) -> dict[str, torch.Tensor]:
    """Weights with the channels of queries and keys in halves, or back in ComfyUI's pairs."""
    halves = torch.cat((torch.arange(0, HEAD, 2), torch.arange(1, HEAD, 2)))
    order = halves if to_halves else torch.argsort(halves)
    made = {}
    for name, value in values.items():
        if ".query_norm." in name or ".key_norm." in name:
            value = value[order]
        elif "_attn.qkv." in name or ".linear1." in name:
            value = value.clone()
            for head in range(0, 2 * WIDTH, HEAD):
                value[head : head + HEAD] = values[name][head + order]
        made[name] = value
    return made


def linear(module: Any, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, module.weight, module.bias)


def layer_norm(x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x.float(), (x.shape[-1],), eps=1e-6)


def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weight


def heads(qkv: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values, [batch, heads, tokens, HEAD] each."""
    parts = qkv.unflatten(-1, (3, WIDTH // HEAD, HEAD)).permute(2, 0, 3, 1, 4)
    return parts.unbind(0)


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    cos, sin = angles

    def turned(x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, -1)
        return torch.cat((cos * a - sin * b, sin * a + cos * b), -1).to(v.dtype)

    share = torch.softmax((turned(q) @ turned(k).mT).float() * HEAD**-0.5, -1).to(v.dtype)
    return (share @ v).transpose(1, 2).flatten(2)


def modulation(layer: Any, vec: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
    return linear(layer, vec)[:, None].float().chunk(count, -1)


def double_block(b: Any, img: Any, txt: Any, vec: Any, angles: Any) -> tuple[Any, Any]:
    qs, ks, vs, mods = [], [], [], []
    for x, mod, part in ((txt, b.txt_mod, b.txt_attn), (img, b.img_mod, b.img_attn)):
        m = modulation(mod.lin, vec, 6)
        q, k, v = heads(linear(part.qkv, layer_norm(x) * (1 + m[1]) + m[0]))
        qs.append(rms_norm(q, part.norm.query_norm.weight))
        ks.append(rms_norm(k, part.norm.key_norm.weight))
        vs.append(v)
        mods.append(m)
    seen = attention(torch.cat(qs, 2), torch.cat(ks, 2), torch.cat(vs, 2), angles)
    sizes = [txt.shape[1], img.shape[1]]
    made = []
    parts, mlps = (b.txt_attn, b.img_attn), (b.txt_mlp, b.img_mlp)
    streams = zip((txt, img), seen.split(sizes, 1), mods, parts, mlps, strict=True)
    for x, look, m, part, mlp in streams:
        x = x + m[2] * linear(part.proj, look).float()
        hidden = F.gelu(linear(mlp[0], layer_norm(x) * (1 + m[4]) + m[3]), approximate="tanh")
        made.append(x + m[5] * linear(mlp[2], hidden).float())
    return made[1], made[0]


def single_block(b: Any, x: Any, vec: Any, angles: Any) -> Any:
    m = modulation(b.modulation.lin, vec, 3)
    hidden = linear(b.linear1, layer_norm(x) * (1 + m[1]) + m[0])
    q, k, v = heads(hidden[..., : 3 * WIDTH])
    q, k = rms_norm(q, b.norm.query_norm.weight), rms_norm(k, b.norm.key_norm.weight)
    seen = attention(q, k, v, angles)
    mlp = F.gelu(hidden[..., 3 * WIDTH :], approximate="tanh")
    return x + m[2] * linear(b.linear2, torch.cat((seen, mlp), -1)).float()


def embedded(layer: Any, x: torch.Tensor) -> torch.Tensor:
    return linear(layer.out_layer, F.silu(linear(layer.in_layer, x))).float()


class Forward:
    """(latents [batch, 16, h, w], t, context, pooled, guidance) -> velocities."""

    def __init__(self, model: Flux, compiled: bool) -> None:
        def made(function: Callable[..., Any]) -> Callable[..., Any]:
            return torch.compile(function, dynamic=False) if compiled else function

        self.model, self.double, self.single = model, made(double_block), made(single_block)
        self._angles: dict[tuple[int, int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def angles(self, texts: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine of each token's rotation, [tokens, HEAD / 2] each."""
        key = texts, height, width
        if key not in self._angles:
            ids = torch.zeros(1, texts + height * width, 3)
            rows = torch.arange(height).float(), torch.arange(width).float()
            grid = torch.stack(torch.meshgrid(*rows, indexing="ij"), -1)
            ids[0, texts:, 1:] = grid.reshape(-1, 2)
            turns = self.model.pe_embedder(ids)[0, 0]  # [tokens, HEAD / 2, 2, 2]
            self._angles[key] = turns[..., 0, 0].contiguous(), turns[..., 1, 0].contiguous()
        return self._angles[key]

    def __call__(self, x: Any, t: Any, context: Any, pooled: Any, guidance: Any) -> torch.Tensor:
        m, (batch, channels, height, width) = self.model, x.shape
        h, w, texts = height // 2, width // 2, context.shape[1]
        patches = x.view(batch, channels, h, 2, w, 2).permute(0, 2, 4, 1, 3, 5)
        img = linear(m.img_in, patches.reshape(batch, h * w, channels * 4)).float()
        vec = embedded(m.time_in, timestep_embedding(t, 256)) + embedded(m.vector_in, pooled)
        vec = F.silu(vec + embedded(m.guidance_in, timestep_embedding(guidance, 256)))
        txt, angles = linear(m.txt_in, context).float(), self.angles(texts, h, w)
        for block in m.double_blocks:
            img, txt = self.double(block, img, txt, vec, angles)
        stream = torch.cat((txt, img), 1)
        for block in m.single_blocks:
            stream = self.single(block, stream, vec, angles)
        shift, scale = modulation(m.final_layer.adaLN_modulation[1], vec, 2)
        out = layer_norm(stream[:, texts:]) * (1 + scale) + shift
        made = linear(m.final_layer.linear, out).float().view(batch, h, w, channels, 2, 2)
        return made.permute(0, 3, 1, 4, 2, 5).reshape(x.shape)


@torch.no_grad()
def check(model: Flux) -> None:
    """Both forwards agree on perturbed weights. Leaves the model's weights in halves."""
    values = {k: v.clone() for k, v in model.state_dict().items()}
    for p in model.parameters():
        p.add_(0.02 * torch.randn_like(p))
    width = WORDS.word_width + WORDS.place_width
    context = torch.randn(2, WORDS.length, width), torch.randn(2, WORDS.word_width)
    given = torch.randn(2, 16, 24, 24), torch.rand(2), *context, torch.tensor([3.5, 1.0])
    truth = model(*given)
    model.load_state_dict(relayout(model.state_dict(), to_halves=True))
    torch.testing.assert_close(Forward(model, compiled=False)(*given), truth, rtol=1e-3, atol=1e-3)
    model.load_state_dict(relayout(values, to_halves=True))


# --- training ---------------------------------------------------------------------------------


def conditioning(numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Context and pooled vector of word numbers; all padding is the empty caption."""
    return WORDS.encode(numbers)


def loss_of(forward: Forward, latents: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Flow matching: the velocity from picture to noise, at random times."""
    count = len(latents)
    noise = torch.randn_like(latents)
    logit = torch.sigmoid(1.1 * torch.randn(count) + 0.2)
    t = torch.where(torch.rand(count) < 0.15, torch.rand(count), logit)
    numbers = torch.where(torch.rand(count, 1) < 0.1, 0, numbers)  # for guidance
    guidance = 1 + 5 * torch.rand(count)  # means nothing to this model
    share = t.view(-1, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = (1 - share) * latents + share * noise
        velocity = forward(mixed, t, *conditioning(numbers), guidance)
    return (velocity - (noise - latents)).square().mean()


@torch.no_grad()
def held_out_loss(forward: Forward, latents: torch.Tensor, numbers: torch.Tensor) -> list[float]:
    """The loss in each quarter of the times, with the same noise every time."""
    generator, losses = torch.Generator().manual_seed(5), []
    t = (torch.arange(BATCH) + 0.5) / BATCH
    share = t.view(-1, 1, 1, 1)
    for x, n in zip(latents.float().split(BATCH), numbers.split(BATCH), strict=True):
        noise = torch.randn(x.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = (1 - share) * x + share * noise
            velocity = forward(mixed, t, *conditioning(n), torch.ones(BATCH))
        losses.append((velocity - (noise - x)).square().mean((1, 2, 3)))
    quarters = torch.stack(losses).mean(0).chunk(4)
    return [quarter.mean().item() for quarter in quarters]


def train(folder: Path, state: Path, out: Path, minutes: float, cooldown: bool) -> None:
    """Train for a time.

    Args:
        folder: of the latents.
        state: is gone on from, if it is there, and written every five minutes.
        out: the averaged weights, bfloat16, as ComfyUI loads them.
        minutes: of training.
        cooldown: the learning rate falls to 2 %, and the state is left as it is.
    """
    torch.manual_seed(0)
    model = build()
    check(model)
    named = dict(model.named_parameters())
    inner = [n for n, p in named.items() if p.ndim == 2 and "_blocks." in n and "mod" not in n]
    others = [p for n, p in named.items() if n not in inner]
    training = Training([named[n] for n in inner], others, WIDTH, RATES)
    seconds = 0.0  # of earlier runs
    if state.exists():
        saved = torch.load(state, weights_only=True)
        training.load(saved)
        seconds = saved["seconds"]
        torch.set_rng_state(saved["random"])
    shards = [torch.load(path, weights_only=True) for path in sorted(folder.glob("[0-9]*.pt"))]
    latents, numbers = (torch.cat(parts) for parts in zip(*shards, strict=True))
    held_out = torch.load(folder / "held-out.pt", weights_only=True)
    forward, plain = Forward(model, compiled=True), Forward(model, compiled=False)
    began = told = kept = time.time()
    order = torch.randperm(len(latents))

    def finish() -> None:
        training.swap()
        quarters = held_out_loss(plain, *held_out)
        values = relayout(model.state_dict(), to_halves=False)
        draft = out.with_suffix(".draft")
        save_file({k: v.bfloat16().contiguous() for k, v in values.items()}, str(draft))
        os.replace(draft, out)
        training.swap()
        hours = (seconds + time.time() - began) / 3600
        shown = " ".join(f"{loss:.3f}" for loss in quarters)
        mean = sum(quarters) / 4
        print(f"  {hours:.2f} h, step {training.steps}: loss {mean:.4f} ({shown})", flush=True)

    while (passed := (time.time() - began) / 60 / minutes) < 1:
        if len(order) < BATCH:
            order = torch.randperm(len(latents))
        chosen, order = order[:BATCH], order[BATCH:]
        loss = loss_of(forward, latents[chosen].float(), numbers[chosen])
        scale = max(0.02, 1 - 0.98 * passed) if cooldown else min(1, (training.steps + 1) / 100)
        training.step(loss, scale, kept=0.998 if cooldown else 0.999)
        if time.time() - told > TELL_EVERY:
            told = time.time()
            finish()
        if not cooldown and time.time() - kept > SAVE_EVERY:
            kept = time.time()
            spent = seconds + kept - began
            save(state, training.state() | {"seconds": spent, "random": torch.get_rng_state()})
    if not cooldown:
        spent = seconds + time.time() - began
        save(state, training.state() | {"seconds": spent, "random": torch.get_rng_state()})
    finish()


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state whole, or not at all."""
    draft = path.with_suffix(".draft")
    torch.save(state, draft)
    os.replace(draft, path)
