"""The checkout's own environment, and its server's address."""

import socket

import pytest

from tools import environment, server

HERE = "127.0.0.1"


def test_what_a_new_environment_costs_is_said_first_and_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environment, "RUNTIME", tmp_path)
    environment.Environment().make()
    said, *after = capsys.readouterr().out.splitlines()
    assert said == environment.COST and "Python environment" in after[0]
    environment.Environment().make()
    assert capsys.readouterr().out == ""


def test_the_server_has_the_usual_port_unless_another_program_has_it(monkeypatch):
    with socket.create_server((HERE, 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(server, "USUAL", port)
        assert server.usable_port(HERE, None) != port
        with pytest.raises(environment.Trouble, match=f"port {port}"):
            server.usable_port(HERE, port)
    assert server.usable_port(HERE, None) == port
