"""The table of model families, without ComfyUI."""

from pathlib import Path

from speca_core.bridge.families import FAMILIES, REFUSED, page


def test_the_page_is_up_to_date():
    written = Path(__file__).parents[2] / "docs/families.md"
    assert written.read_text(encoding="utf-8") == page() + "\n", "python -m speca_core.bridge.families > docs/families.md"


def test_every_class_has_one_entry():
    models = [model for family in FAMILIES for model in family.models]
    assert len(models) == len(set(models)) and not set(models) & set(REFUSED)
