import math

from nodes.runtime.page.timeline import COLOURS, HEADER, ROOM, WIDTH, bar_of, bars_of, draw_timeline
from speca_core import SpecaConfig
from speca_core.report import CallRecord, RowRecord, RunReport


def report(calls):
    return RunReport(model="Flux", settings=SpecaConfig().to_dict(), steps=4, calls=calls, seconds=1.0, finished=True)


def test_a_bar_is_the_worst_of_its_branches():
    bar = bar_of([RowRecord(0, 0, "drafted", "draft", 0.01, 0.05), RowRecord(0, 1, "rejected", "rejected", 0.07, 0.04)])
    assert (bar.verdict, bar.error, bar.tolerance) == ("rejected", 0.07, 0.04)


def test_an_image_missing_from_a_call_leaves_a_gap():
    calls = [CallRecord(0, 1.0, 0, rows=[RowRecord(0, 0, "computed", "warmup")]), CallRecord(1, 0.5, 1, rows=[])]
    assert bars_of(calls, 0)[1] is None


def colours(picture):
    return {f"#{r:02X}{g:02X}{b:02X}" for _, (r, g, b) in picture.getcolors(1 << 24)}


def test_every_verdict_has_its_colour_in_the_picture():
    rows = [RowRecord(0, 0, "computed", "warmup", None, None, 0.02), RowRecord(0, 0, "drafted", "draft", 0.01, 0.05)]
    rows += [RowRecord(0, 0, "rejected", "rejected", math.inf, 0.05), RowRecord(0, 0, "drafted", "draft")]
    picture = draw_timeline(report([CallRecord(i, 1.0, i, rows=[row]) for i, row in enumerate(rows)]))
    assert picture.width == 1000 and set(COLOURS.values()) <= colours(picture)


def test_a_rejection_is_crossed_above_its_bar_however_high():
    picture = draw_timeline(report([CallRecord(0, 1.0, 0, rows=[RowRecord(0, 0, "rejected", "rejected", math.inf, 0.05)])]))
    strip = picture.crop((0, HEADER + 1, WIDTH, HEADER + ROOM - 1))
    crossed = [strip.getpixel((x, strip.height // 2)) for x in range(WIDTH)]
    assert 0 < sum(f"#{r:02X}{g:02X}{b:02X}" == COLOURS["rejected"] for r, g, b in crossed) < 10


def test_the_picture_grows_with_the_batch_and_stops_at_six():
    def height(images):
        return draw_timeline(report([CallRecord(0, 1.0, 0, rows=[RowRecord(i, 0, "computed", "warmup") for i in range(images)])])).height

    assert height(1) < height(4) < height(6) == height(9)


def test_a_run_without_calls_is_drawn_too():
    assert draw_timeline(report([])).width == 1000
