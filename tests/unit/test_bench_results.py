"""The benchmark's rows: measured, resumed, aggregated, and made into the page."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTING = "euler 28 steps, CFG 1"


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("results")


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("page")


def measured(image, psnr, seconds=1.0):
    """One image by one method."""
    method = {"setting": SETTING, "group": "default", "label": "0.1"}
    speed = {"seconds": seconds, "evaluations": 14, "speedup": 2 / seconds, "saved": 2.0}
    return {**method, "image": image, "psnr": psnr, **speed}


def test_a_second_start_knows_the_rows_of_the_first(results, tmp_path):
    results.of_images("methods", tmp_path).add([measured(0, 50.0)])
    again = results.of_images("methods", tmp_path)
    assert again.has(SETTING, "default", "0.1", 0)
    assert not again.has(SETTING, "default", "0.1", 1)


def test_a_part_on_fewer_images_counts_as_not_measured(results, tmp_path):
    results.of_part("thresholds", tmp_path).add([{"setting": SETTING, "images": 4}])
    again = results.of_part("thresholds", tmp_path)
    assert again.has(SETTING, images=4)
    assert not again.has(SETTING, images=16)


def test_psnr_stays_one_number_per_image_and_speeds_are_averaged(results):
    rows = [measured(1, 44.44), measured(0, 50.06, 2.0), measured(2, 41.0, 4.0)]
    assert results.aggregate(rows) == [
        {
            "setting": SETTING,
            "group": "default",
            "label": "0.1",
            "evaluations": 14.0,
            "saved": 2.0,
            "seconds": 2.0,
            "speedup": 1.0,
            "psnr": [50.1, 44.4, 41.0],
        }
    ]


@pytest.mark.parametrize(("images", "winner"), [(1, "kept"), (2, "new"), (3, "new")])
def test_a_quick_look_does_not_replace_a_row_of_more_images(results, images, winner):
    kept = [{"setting": SETTING, "psnr": [1.0, 2.0], "from": "kept"}]
    new = [{"setting": SETTING, "psnr": [3.0] * images, "from": "new"}]
    assert [row["from"] for row in results.merge(kept, new, ["setting"])] == [winner]


def test_collecting_keeps_the_rows_that_were_not_measured_here(results, tmp_path):
    path = tmp_path / "results.json"
    results.save({"targets": [{"setting": "heun", "images": 8}]}, path)
    results.of_images("methods", tmp_path).add([measured(0, 50.0)])
    collected = results.collect(tmp_path, path)
    assert collected["targets"] == [{"setting": "heun", "images": 8}]
    assert [row["psnr"] for row in collected["methods"]] == [[50.0]]
    assert results.load(path) == collected


def test_results_have_a_row_on_each_line(results):
    text = results.RESULTS.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith('{"')]
    assert len(rows) == sum(len(part) for part in results.load().values())
    assert all(json.loads(row.rstrip(",")) for row in rows)


def test_the_page_is_made_of_the_results_and_short(results, page):
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.page(results.load()), "write it again: python3 run.py bench --page"
    assert len(text.splitlines()) <= 150
    words = [word for word in text.split() if any(map(str.isalnum, word))]
    assert len(words) <= 2500
