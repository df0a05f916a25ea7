"""The checkout's own environment."""

from tools import environment


def test_what_a_new_environment_costs_is_said_first_and_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environment, "RUNTIME", tmp_path)
    environment.Environment().make()
    said, *after = capsys.readouterr().out.splitlines()
    assert said == environment.COST and "Python environment" in after[0]
    environment.Environment().make()
    assert capsys.readouterr().out == ""
