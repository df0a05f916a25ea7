"""Profiles can be looked at, deleted, exported and imported, over the page's routes."""

import copy
import json
import urllib.error
import urllib.request

import pytest
from test_server import ask, finish, graph

NAME = f"{'a1' * 12}-{'b2' * 8}"


def send(address, path, method="GET", body=None, kind="application/json"):
    """The answer to a request: (status, JSON)."""
    headers = {"Content-Type": kind} if body is not None else {}
    asked = urllib.request.Request(f"{address}{path}", body, headers, method=method)
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(asked, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read() or b"{}")


@pytest.fixture(scope="module")
def learned(comfy):
    """The name of the profile that a run on the server has made."""
    assert finish(comfy, graph(threshold=0.0))["status"]["status_str"] == "success"
    return next(iter(ask(comfy, "/speca/profiles")))  # the newest; a checkout in use has others


def test_the_list_tells_of_each_without_its_numbers(comfy, learned):
    told = ask(comfy, "/speca/profiles")[learned]
    assert told["model"] == "Flux" and told["changed"] > 1.7e9
    assert set(told["profiles"][0]) == {"guidance", "runs", "surprise", "trials"}


def test_a_profile_goes_out_and_comes_back(comfy, learned):
    _, exported = send(comfy, f"/speca/profiles/{learned}")
    assert exported["name"] == learned
    assert send(comfy, f"/speca/profiles/{learned}", "DELETE") == (200, {"deleted": True})
    assert send(comfy, f"/speca/profiles/{learned}", "DELETE") == (200, {"deleted": False})
    assert learned not in ask(comfy, "/speca/profiles")
    assert send(comfy, f"/speca/profiles/{learned}")[0] == 404
    body = json.dumps(exported).encode()
    assert send(comfy, "/speca/profiles", "POST", body) == (200, {"name": learned})
    assert send(comfy, f"/speca/profiles/{learned}") == (200, exported)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../evil"},
        {"name": f"{NAME}/../{NAME}"},
        {"name": None},
        {"name": "A" * 24 + "-" + "b" * 16},
        {"profiles": []},
        {"profiles": [{}]},
        {"profiles": {"0": 1}},
        {"profiles": [{"schema": 1, "sigmas": [1.0] * 10**6}]},
    ],
    ids=lambda change: str(change)[:40],
)
def test_what_is_no_profile_changes_nothing(comfy, learned, change):
    before = ask(comfy, "/speca/profiles")
    _, exported = send(comfy, f"/speca/profiles/{learned}")
    body = json.dumps(copy.deepcopy(exported) | change).encode()
    status, answer = send(comfy, "/speca/profiles", "POST", body)
    assert status == 400 and "expected" in answer["error"]
    assert ask(comfy, "/speca/profiles") == before


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"{", "application/json"), (b"{}", "text/plain"), (b" " * 9_000_000, "application/json")],
    ids=["broken", "text", "huge"],
)
def test_what_is_no_request_is_refused(comfy, body, kind):
    status, answer = send(comfy, "/speca/profiles", "POST", body, kind)
    assert status == 400 and answer["error"]


def test_a_name_out_of_the_folder_is_refused(comfy):
    for name in ("..%2F..%2Fcomfy.settings", "x", "..%5C..%5Cx"):
        assert send(comfy, f"/speca/profiles/{name}", "DELETE")[0] in (400, 404)


def test_the_command_lists_exports_deletes_and_imports(tmp_path, capsys):
    from speca_pack.nodes.runtime.profiles import ProfileStore
    from speca_pack.tools.profiles import main

    def run(*arguments):
        code = main(["--folder", str(tmp_path / "profiles"), *map(str, arguments)])
        return code, capsys.readouterr().out

    assert run() == (0, "no profiles\n")
    store, file = ProfileStore(tmp_path / "profiles"), tmp_path / "shared.json"
    gram = [1.0, 0, 0, 1, 0, 1]
    told = {"schema": 1, "guidance": 3.5, "flow": True, "sigmas": [1.0, 0.5], "gram": gram}
    profile = told | {"runs": 2, "surprise": 1.0, "judged": 0, "trials": [[0.5, 1, 1.2]]}
    store.take({"name": NAME, "model": "Flux", "profiles": [profile]})
    code, text = run()
    assert code == 0 and text.startswith(NAME)
    assert "Flux: CFG 3.5 from 2 runs, calibrated" in text
    assert run("export", NAME, file)[0] == 0
    assert run("delete", NAME)[0] == 0 and store.all() == {}
    assert run("delete", NAME)[0] == 1
    assert run("import", file)[0] == 0 and [*store.all()] == [NAME]
