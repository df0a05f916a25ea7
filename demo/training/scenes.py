"""Captioned pictures to train on: shaded emoji on grounds that numpy draws.

`scene(7)` gives a picture and its caption, the same ones everywhere:

    uint8 [192, 192, 3], "a big cat top left, a small pizza right, on grass"

The emoji are those of the npm package @lobehub/fluent-emoji-3d 1.1.0 (MIT, Microsoft's Fluent
Emoji); SPECA_EMOJI names its folder of webp files.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..custom_nodes.speca_demo.words import GROUNDS, OBJECTS, SIZES

SIZE = 192  # pixels
Plane = np.ndarray[Any, np.dtype[np.float32]]
Random = np.random.Generator

# --- noise and colour -------------------------------------------------------------------------


@functools.cache
def frequencies(size: int, along: float = 1.0, across: float = 1.0) -> Plane:
    """Cycles per picture of each Fourier coefficient; a larger number shortens the grain."""
    x, y = np.fft.rfftfreq(size)[None] / along, np.fft.fftfreq(size)[:, None] / across
    return (np.hypot(x, y) * size).astype(np.float32)


def noise(
    random: Random,
    slope: float = 1.5,
    along: float = 1.0,
    across: float = 1.0,
    low: float = 1.0,
    high: float = 44.0,
) -> Plane:
    """1/f^slope noise of mean 0 and deviation 1, [SIZE, SIZE], between two frequencies."""
    f = frequencies(SIZE, along, across)
    gain = np.maximum(f, low) ** -slope * np.exp(-((f / high) ** 2))
    gain[0, 0] = 0
    white = random.standard_normal((SIZE, SIZE), dtype=np.float32)
    made = np.fft.irfft2(np.fft.rfft2(white) * gain, s=(SIZE, SIZE)).astype(np.float32)
    return made / made.std()


def blur(plane: Plane, radius: float) -> Plane:
    """A Gaussian blur, in pixels."""
    f = frequencies(len(plane)) / len(plane)
    gain = np.exp(-2 * (np.pi * f * radius) ** 2)
    return np.fft.irfft2(np.fft.rfft2(plane) * gain, s=plane.shape).astype(np.float32)


def cells(random: Random, pitch: float) -> tuple[Plane, np.ndarray[Any, Any], int]:
    """Voronoi cells of a jittered grid: distance to the border, number of the cell, how many."""
    count = int(np.ceil(SIZE / pitch)) + 2
    jitter = random.uniform(0.1, 0.9, (count, count, 2)).astype(np.float32)
    yy, xx = np.mgrid[:SIZE, :SIZE].astype(np.float32) / pitch + 1
    row, column = yy.astype(int), xx.astype(int)
    nearest = np.full((2, SIZE, SIZE), 9, np.float32)
    owner = np.zeros((SIZE, SIZE), int)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            cy = np.clip(row + dy, 0, count - 1)
            cx = np.clip(column + dx, 0, count - 1)
            distance = np.hypot(cy + jitter[cy, cx, 0] - yy, cx + jitter[cy, cx, 1] - xx)
            first = distance < nearest[0]
            nearest[1] = np.where(first, nearest[0], np.minimum(nearest[1], distance))
            nearest[0] = np.where(first, distance, nearest[0])
            owner = np.where(first, cy * count + cx, owner)
    return nearest[1] - nearest[0], owner, count * count


def smooth(x: Plane, low: float, high: float) -> Plane:
    """A smooth step from 0 to 1."""
    x = np.clip((x - low) / (high - low), 0, 1)
    return x * x * (3 - 2 * x)


def ramp(x: Plane, *colours: tuple[float, float, float]) -> Plane:
    """Colours for 0..1, linear between the given ones: [..., 3]."""
    table = np.array(colours, np.float32)
    place = np.clip(x, 0, 1) * (len(table) - 1)
    below = np.minimum(place.astype(int), len(table) - 2)
    return table[below] + (table[below + 1] - table[below]) * (place - below)[..., None]


# --- grounds: [SIZE, SIZE, 3]; X and Y run from 0 to 1 ----------------------------------------

Y, X = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE


def grass(r: Random) -> Plane:
    x = 0.6 * noise(r, 1.0, 1.6, 0.6, 6, 34) + 0.6 * noise(r, 1.8) + 0.9 * (Y - 0.5)
    greens = (0.08, 0.22, 0.06), (0.22, 0.45, 0.10), (0.45, 0.66, 0.18), (0.72, 0.82, 0.36)
    return ramp(0.5 + 0.2 * x, *greens)


def sand(r: Random) -> Plane:
    tilt = r.uniform(-0.4, 0.4)
    waves = np.sin((Y + tilt * X + 0.05 * noise(r, 2.2)) * r.uniform(55, 85))
    x = 0.45 * waves * smooth(noise(r, 2), -1, 1) + 0.5 * noise(r, 1.8)
    x = x + 0.25 * noise(r, 0.6, high=50)
    sands = (0.55, 0.40, 0.24), (0.80, 0.65, 0.43), (0.93, 0.83, 0.62), (0.99, 0.94, 0.80)
    return ramp(0.5 + 0.2 * x, *sands)


def sea(r: Random) -> Plane:
    x, green = noise(r, 1.3, 0.5, 1.8, 3), r.uniform()
    deep = (0.01, 0.12, 0.28), (0.03, 0.30 + 0.1 * green, 0.50)
    bright = (0.12, 0.50 + 0.15 * green, 0.66), (0.55, 0.80, 0.86)
    base = ramp(0.5 + 0.2 * x + 0.4 * (0.5 - Y), *deep, *bright)
    return base + 0.6 * smooth(noise(r, 1.1, 0.5, 2, 6) + 0.4 * x, 1.3, 2.6)[..., None]


def sky(r: Random) -> Plane:
    blues = (0.16, 0.38, 0.78), (0.38, 0.62, 0.92), (0.76, 0.87, 0.97)
    base = ramp(Y + r.uniform(-0.15, 0.15), *blues)
    n = noise(r, 1.7, 0.8, 1.3, 2)
    cloud = smooth(n, r.uniform(-0.2, 0.5), 1.4)[..., None]
    lit = (0.93 + 0.06 * np.roll(n, (-5, -3), (0, 1)) - 0.06 * n)[..., None]
    return base * (1 - cloud) + lit * np.array((1, 0.99, 1), np.float32) * cloud


def snow(r: Random) -> Plane:
    n = noise(r, 2, 0.8, 1.2)
    x = n - np.roll(n, (4, 3), (0, 1)) * 0.75 + 0.12 * noise(r, 0.7, high=50)
    whites = (0.52, 0.63, 0.82), (0.76, 0.84, 0.95), (0.93, 0.96, 0.99), (1.0, 1.0, 1.0)
    return ramp(0.55 + 0.28 * x, *whites)


def wood(r: Random) -> Plane:
    planks = int(r.integers(3, 6))
    plank = np.minimum((X * planks).astype(int), planks - 1)
    tone = r.uniform(-1, 1, planks)[plank]
    bend = 0.35 * noise(r, 2.2, 2.5, 0.35)
    grain = np.sin((X * planks - plank + bend + tone) * r.uniform(14, 22))
    x = 0.35 * grain + 0.45 * noise(r, 1.1, 4, 0.3, 4) + 1.1 * tone
    edge = 1 - 0.65 * smooth(np.abs(X * planks - plank - 0.5), 0.46, 0.5)
    warm = (0.22, 0.11, 0.05), (0.45, 0.26, 0.12), (0.66, 0.43, 0.22), (0.82, 0.62, 0.38)
    cool = (0.30, 0.22, 0.16), (0.50, 0.38, 0.27), (0.69, 0.56, 0.41), (0.85, 0.74, 0.58)
    return ramp(0.5 + 0.2 * x, *(warm, cool)[r.integers(2)]) * edge[..., None]


def brick(r: Random) -> Plane:
    rows = int(r.integers(6, 10))
    row = (Y * rows).astype(int)
    along = X * rows / 2.1 + 0.5 * (row % 2) + r.uniform()
    column = along.astype(int)
    tone = r.uniform(-1, 1, 400)[(row * 17 + column) % 400]
    across = smooth(np.abs(Y * rows - row - 0.5), 0.36, 0.46)
    gap = np.maximum(across, smooth(np.abs(along - column - 0.5), 0.43, 0.48))[..., None]
    x = 0.8 * tone + 0.5 * noise(r, 1.2, low=3) + 0.3 * noise(r, 2)
    reds = (0.33, 0.11, 0.08), (0.55, 0.22, 0.15), (0.72, 0.36, 0.24), (0.84, 0.54, 0.40)
    mortar = ramp(0.5 + 0.2 * noise(r, 1.2), (0.55, 0.52, 0.48), (0.78, 0.75, 0.70))
    lit = 1 + 0.15 * (np.roll(gap, 2, 0) - np.roll(gap, -2, 0))
    return (ramp(0.5 + 0.2 * x, *reds) * (1 - gap) + mortar * gap) * lit


def night(r: Random) -> Plane:
    dark = (0.01, 0.01, 0.05), (0.04, 0.05, 0.18), (0.14, 0.10, 0.36), (0.42, 0.20, 0.50)
    base = ramp(0.35 * Y + 0.3 + 0.15 * noise(r, 1.9), *dark)
    for _ in range(int(r.integers(30, 60))):
        y0, x0 = r.uniform(0, 1), r.uniform(0, 1)
        size, light = r.uniform(0.003, 0.007), r.uniform(0.3, 1.1)
        y, x = int(y0 * SIZE), int(x0 * SIZE)
        near = np.s_[max(0, y - 6) : y + 7, max(0, x - 6) : x + 7]
        squares = (Y[near] - y0) ** 2 + (X[near] - x0) ** 2
        base[near] += (light * np.exp(-squares / (2 * size * size)))[..., None]
    return base


def leaves(r: Random) -> Plane:
    autumn = (0.30, 0.10, 0.03), (0.72, 0.24, 0.06), (0.93, 0.52, 0.10), (0.98, 0.80, 0.25)
    summer = (0.03, 0.16, 0.06), (0.10, 0.36, 0.12), (0.30, 0.56, 0.16), (0.62, 0.78, 0.28)
    colours, made = (autumn, summer)[r.integers(2)], None
    for pitch in (r.uniform(22, 28), r.uniform(30, 40)):
        edge, owner, count = cells(r, pitch)
        tone, angle = r.uniform(0, 1, count)[owner], r.uniform(0, 6.3, count)[owner]
        vein = np.sin((np.cos(angle) * X + np.sin(angle) * Y) * 90)
        x = tone * 0.8 + 0.06 * vein + 0.06 * noise(r, 1.5) + 0.1
        leaf = ramp(x, *colours) * (0.35 + 0.65 * smooth(edge, 0, 0.35))[..., None]
        if made is None:
            made = leaf
            continue
        over = (r.uniform(0, 1, count)[owner] < 0.5) & (edge > 0.06)
        made = np.where(over[..., None], leaf, made)
    assert made is not None
    return made


def stone(r: Random) -> Plane:
    edge, owner, count = cells(r, r.uniform(26, 50))
    tone, warm = r.uniform(-1, 1, count)[owner], r.uniform(-1, 1)
    x = 0.7 * tone + 0.5 * noise(r, 1.2, low=3) + 0.35 * noise(r, 2.2)
    tint = np.array((1 + 0.04 * warm, 1, 1 - 0.06 * warm), np.float32)
    greys = (0.20, 0.21, 0.22), (0.42, 0.42, 0.43), (0.63, 0.63, 0.62), (0.82, 0.82, 0.80)
    return ramp(0.5 + 0.2 * x, *greys) * tint * (0.3 + 0.7 * smooth(edge, 0.02, 0.3))[..., None]


DRAW: dict[str, Callable[[Random], Plane]] = {
    function.__name__: function
    for function in (grass, sand, sea, sky, snow, wood, brick, night, leaves, stone)
}

# --- scenes -----------------------------------------------------------------------------------

Thing = tuple[str, str, str, float, float, float]  # name, size, place, centre x, y, width


@functools.cache
def emoji(name: str) -> Image.Image:
    """A picture cropped to its content, on a transparent square."""
    path = Path(os.environ["SPECA_EMOJI"]) / f"{OBJECTS[name]}.webp"
    image = Image.open(path).convert("RGBA")
    image = image.crop(image.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox())
    side = max(image.size)
    square = Image.new("RGBA", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def layout(random: Random) -> list[Thing]:
    """One to three things with little overlap."""
    count = int(random.choice(3, p=(0.35, 0.4, 0.25))) + 1
    names = random.choice(list(OBJECTS), count, replace=False)
    placed: list[Thing] = []
    for _ in range(200):
        placed = []
        for name in names:
            size = SIZES[int(random.integers(2))]
            big = size == "big"
            width = random.uniform(0.45, 0.55) if big else random.uniform(0.25, 0.32)
            column, row = (int(v) for v in random.integers(0, 3, 2))
            side = 0.5 - width / 2 - 0.02 if big else random.uniform(0.25, 0.33)
            x, y = (0.5 + (g - 1) * side + random.uniform(-0.035, 0.035) for g in (column, row))
            words = [("top", "", "bottom")[row], ("left", "", "right")[column]]
            place = " ".join(word for word in words if word) or "center"
            if any(np.hypot(x - o[3], y - o[4]) < 0.46 * (width + o[5]) for o in placed):
                break
            placed.append((str(name), size, place, x, y, width))
        else:
            return placed
    return placed or layout(random)


def scene(seed: int) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], str]:
    """A picture, [SIZE, SIZE, 3], and its caption."""
    random = np.random.default_rng(seed)
    things = layout(random)
    ground = GROUNDS[int(random.integers(len(GROUNDS)))]
    made = np.clip(DRAW[ground](random), 0, 1).astype(np.float32)
    light = random.uniform(0, 2 * np.pi)
    lx, ly = np.cos(light), np.sin(light)  # where the light comes from
    for name, _, _, x, y, width in things:
        pixels = max(8, round(width * SIZE))
        source = emoji(name)
        turned = source.rotate(random.uniform(-20, 20), Image.Resampling.BICUBIC, expand=True)
        side = max(1, round(turned.width * pixels / source.width))
        small = turned.resize((side, side), Image.Resampling.LANCZOS, reducing_gap=2)
        thing = np.asarray(small, np.float32) / 255
        thing[..., :3] *= thing[..., 3:]  # PIL works with straight alpha
        layer = np.zeros((SIZE, SIZE, 4), np.float32)
        left, top = round(x * SIZE - side / 2), round(y * SIZE - side / 2)
        rows = slice(max(0, top), min(SIZE, top + side))
        columns = slice(max(0, left), min(SIZE, left + side))
        layer[rows, columns] = thing[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
        mask = layer[..., 3]
        if ground in ("sky", "night"):
            made *= 1 - 0.25 * np.clip(blur(mask, 0.08 * pixels + 1), 0, 1)[..., None]
        else:  # a shadow on the ground
            away = round(-ly * 0.05 * pixels + 0.04 * pixels), round(-lx * 0.07 * pixels)
            shadow = blur(np.roll(mask, away, (0, 1)), 0.05 * pixels + 1)
            made *= 1 - 0.55 * np.clip(shadow, 0, 1)[..., None]
        made = made * (1 - mask[..., None]) + layer[..., :3]
    slope = random.uniform(0.05, 0.22) * (lx * (X - 0.5) + ly * (Y - 0.5)) * 1.6
    warm = random.uniform(-0.05, 0.05)
    tint = np.array((1 + warm, 1, 1 - warm), np.float32)
    made = made * (1 + slope)[..., None] * tint * random.uniform(0.88, 1.06)
    told = ", ".join(f"a {size} {name} {place}" for name, size, place, *_ in things)
    return np.round(np.clip(made, 0, 1) * 255).astype(np.uint8), f"{told}, on {ground}"
