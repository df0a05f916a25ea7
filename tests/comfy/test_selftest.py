"""`run.py check --device` says what works on a device, and what does not."""

import pytest
from speca_pack.demo import selftest
from speca_pack.nodes.runtime.profiles import ProfileStore
from speca_pack.speca_core import SpecaConfig


def test_all_works_here(capsys):
    assert selftest.main() == 0
    said = capsys.readouterr().out
    assert "FAILS" not in said and said.count("works: ") == 9 and "all works" in said
    assert "device: cpu" in said and "for a bug report" in said


def test_what_does_not_work_is_said(capsys, monkeypatch, tmp_path):
    checks = selftest.Checks(ProfileStore(tmp_path))
    with pytest.raises(selftest.Fails, match="0 of 40 answers were drafts"):
        checks.drafts(SpecaConfig(0.0))
    checks.plain = checks.plain + 1
    with pytest.raises(selftest.Fails, match="apart by"):
        checks.equal(SpecaConfig(0.0))
    monkeypatch.setattr(selftest.Checks, "all", lambda self: [("this", lambda: 1 // 0)])
    assert selftest.main() == 1
    assert "FAILS: ZeroDivisionError" in capsys.readouterr().out
