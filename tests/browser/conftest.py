"""These tests drive the real page: a ComfyUI server with the demo's model, and Chromium, in both of
ComfyUI's renderers."""

import contextlib
import importlib.util
import json
import os
import shutil
import sys
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

# Tiny tensors, and the browser needs a core. The server inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

PACK = Path(__file__).resolve().parents[2]
sys.path.append(str(PACK / "tests"))
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PAGE_SETTINGS = {
    "Comfy.TutorialCompleted": True,  # else a dialog covers the page
    "Comfy.Workflow.Persist": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.RightSidePanel.IsOpen": False,
    "Comfy.Locale": "en",
    "Comfy.ColorPalette": "dark",
    "SpeCa.Timeline.Show": True,
    "SpeCa.Timeline.Colours": "colour-blind safe",
}
# Seconds for anything to happen: a busy machine of CI may be many times slower than a desk's.
PATIENCE = 90
expect.set_options(timeout=1000 * PATIENCE)
FAILED = pytest.StashKey()  # whether a test failed
# Messages of ComfyUI's own page: files that need not exist, and sites that its content policy
# blocks.
KNOWN_MESSAGES = (
    "404",
    "huggingface",
    "Content Security Policy",
    "graph accessed before",
    "favicon",
)
# Functions for the tests.
# paintings: resolves after that many frames, however long they take.
# asked: number of requests to the server, by path; answered: no what-if is under way.
# timelineOf: the timeline's element of the node at a path; "5:2" is node 2 in node 5's subgraph.
HELPERS = """() => {
    window.paintings = async (count) => {
        for (; count; count--) await new Promise(requestAnimationFrame);
    };
    window.asked = {'/prompt': 0, '/speca/what_if': 0};
    let open = 0;
    const ask = app.api.fetchApi;
    app.api.fetchApi = async function (path) {
        if (!(path in asked)) return ask.apply(this, arguments);
        asked[path]++, open++;
        try { return await ask.apply(this, arguments) } finally { open-- }
    };
    window.answered = async () => {
        for (let quiet = 0; quiet < 5; quiet = open ? 0 : quiet + 1) await paintings(1);
    };
    window.timelineOf = (path) => {
        let graph = app.rootGraph, node = null;
        for (const id of String(path).split(':')) {
            node = graph?.getNodeById(id) ?? graph?.getNodeById(+id);
            graph = node?.subgraph;
        }
        return node?.widgets?.find((widget) => widget.name === 'timeline')?.element;
    };
}"""


# For what does not depend on the renderer.
once = pytest.mark.parametrize("tab", ["canvas"], indirect=True)


def load(folder, module):
    """A module of a folder of the repo, without its root on sys.path."""
    package = f"speca_{folder}"
    if package not in sys.modules:
        path = PACK / folder
        spec = importlib.util.spec_from_file_location(
            package, path / "__init__.py", submodule_search_locations=[str(path)]
        )
        sys.modules[package] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[package])
    return importlib.import_module(f"{package}.{module}")


def ask(address, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        request, timeout=60
    ) as response:
        text = response.read()
        return json.loads(text) if text else None


@contextlib.contextmanager
def serving(log):
    """The address of a running server; SPECA_SERVER names one that already runs."""
    if address := os.environ.get("SPECA_SERVER"):
        yield address
        return
    server = load("tools", "server").server
    with server(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), "127.0.0.1", 0, log) as (
        address,
        _,
    ):
        yield address


@contextlib.contextmanager
def browser():
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        found = found or playwright.chromium.executable_path
        if not Path(found).exists():
            pytest.exit(
                "found no Chromium; expected one of "
                + ", ".join(BROWSERS)
                + " or Playwright's own. "
                "Install it by the machine's package manager (Debian: apt install chromium) or by: "
                "python -m playwright install chromium",
                returncode=3,
            )
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        running = playwright.chromium.launch(executable_path=found, headless=True, args=options)
        yield running
        running.close()


@pytest.fixture(scope="session")
def comfy(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("server") / "log.txt") as address:
        yield address


@pytest.fixture(scope="session")
def chromium():
    with browser() as running:
        yield running


@pytest.fixture(scope="session", params=["canvas", "vue"])
def tab(request, comfy, chromium):
    """The page in one of the renderers. Opening it takes seconds, so the tests share it, and each
    loads a workflow."""
    with opened(comfy, chromium, request.param == "vue") as page:
        teach(page)
        yield page


def teach(page):
    """Let SpeCa learn the demo's model for runs of up to 50 steps: the first one is plain."""
    from graphs import fresh  # it reads this module

    page.load(fresh(steps=50))
    assert page.queue() == "execution_success"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture
def page(tab, request):
    """The shared page. What it wrote into the console is looked at after each test; after a failed
    one the page is opened anew, so that the next test does not meet what it left behind."""
    yield tab
    errors = tab.errors
    tab.messages.clear()
    if request.node.stash.get(FAILED, True):
        store(tab.address, PAGE_SETTINGS)
        tab.open()
    assert errors == []


class Page:
    """The page, and what the tests do in it."""

    def __init__(self, tab, address):
        self.tab, self.address, self.messages = tab, address, []
        tab.set_default_timeout(1000 * PATIENCE)
        tab.on(
            "console",
            lambda message: self.messages.append(message.text) if message.type == "error" else None,
        )
        tab.on("pageerror", lambda error: self.messages.append(str(error)))

    def open(self):
        self.tab.goto(self.address, wait_until="domcontentloaded")
        self.tab.wait_for_function(
            "window.app?.extensionManager?.workflow?.activeWorkflow && app.vueAppReady !== false"
            " && LiteGraph.registered_node_types?.SpeCaAccelerate && !app.extensionManager.spinner",
        )
        self.run(HELPERS)
        self.frames()

    def run(self, script, argument=None):
        return self.tab.evaluate(script, argument)

    def frames(self, count=4):
        """Wait until the page was painted `count` times: its pending work is then done."""
        self.run("count => paintings(count)", count)

    def answered(self):
        """Wait until no what-if is under way."""
        self.run("() => answered()")

    def blank(self):
        self.run("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
        self.until("() => app.graph.nodes.length === 0")

    def load(self, workflow):
        self.run("w => app.loadGraphData(w)", workflow)
        self.drawn()

    def drawn(self):
        """Wait until the timelines of the open graph were drawn."""
        self.until(
            """() => app.graph.nodes.every((node) => {
                const host = node.widgets?.find((widget) => widget.name === 'timeline')?.element;
                return !host || (host.isConnected && +host.dataset.draws);
            })"""
        )
        self.frames()

    def until(self, script, argument=None):
        self.tab.wait_for_function(script, arg=argument)

    def start(self):
        """Queue the graph. It has ended once nothing is executed any more: the history has it."""
        self.run(
            """() => {
                let how = window.ended = '';
                for (const end of ['success', 'error', 'interrupted']) {
                    const name = `execution_${end}`;
                    app.api.addEventListener(name, () => (how = name), {once: true});
                }
                app.api.addEventListener('executing', function over() {
                    if (how) app.api.removeEventListener('executing', over);
                    window.ended = how;
                });
                app.queuePrompt(0);
            }"""
        )

    def end(self):
        """Wait until the graph has run; returns how it ended."""
        self.until("() => window.ended")
        return self.run("() => window.ended")

    def queue(self):
        """Queue the graph; returns how it ended."""
        self.start()
        return self.end()

    def drop(self, data, name, kind):
        """Drop a file onto the canvas."""
        transfer = self.tab.evaluate_handle(
            """([bytes, name, type]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([new Uint8Array(bytes)], name, {type}));
                return transfer;
            }""",
            [[*data], name, kind],
        )
        for event in ("dragenter", "dragover", "drop"):
            self.tab.dispatch_event(
                "#graph-canvas", event, {"dataTransfer": transfer, "clientX": 700, "clientY": 450}
            )

    def set(self, node, name, value):
        """Change a widget as the user does."""
        self.run(
            """([id, name, value]) => {
                const widget = app.graph.getNodeById(id).widgets.find((w) => w.name === name);
                widget.value = value;
                widget.callback?.(value);
            }""",
            [node, name, value],
        )

    def chart(self, node):
        """What the timeline of a node shows now."""
        return self.run(
            """(path) => {
                const host = window.timelineOf(path);
                if (!host) return null;
                const inside = host.shadowRoot, find = (name) => inside.querySelector(name);
                const shown = (name) => find(name).hidden ? '' : find(name).textContent;
                return {
                    state: host.dataset.state, draws: +host.dataset.draws, run: host.dataset.run,
                    visible: host.checkVisibility(), height: host.offsetHeight,
                    bars: [...inside.querySelectorAll('.bar')].map((bar) => bar.dataset.verdict),
                    head: shown('.head'), line: shown('.line'), tone: find('.body').dataset.tone,
                    gain: parseFloat(shown('.head').match(/([\\d.]+)×/)?.[1]),
                    counts: shown('.counts .computed') + ', ' + shown('.counts .accepted'),
                    legend: [shown('.count.rejected'), shown('.count.limit')].filter(Boolean),
                    sampler: shown('.sampler'), cure: shown('.cure'), original: shown('.original'),
                    advanced: shown('.advanced'),
                    qualities: Object.fromEntries([...inside.querySelectorAll('.quality')]
                        .map((made) => [made.dataset.preset, made.lastChild.textContent])),
                    preset: find('[aria-pressed=true]')?.dataset.preset ?? null,
                };
            }""",
            str(node),
        )

    def press(self, node, selector):
        """Press a button in the timeline of a node."""
        press = "([path, name]) => timelineOf(path).shadowRoot.querySelector(name).click()"
        self.run(press, [str(node), selector])
        self.frames()

    def badge(self, node):
        """What the title of a node shows besides its name: the styles of Nodes 2.0 have it, and
        what the classic canvas writes is seen by writing it."""
        title = "document.querySelector(`[data-testid='node-header-${id}'] > div`)"
        self.until(f"id => !LiteGraph.vueNodesMode || {title}", node)
        return self.run(
            f"""id => {{
                const node = app.graph.getNodeById(id), said = [];
                if (LiteGraph.vueNodesMode) return getComputedStyle({title}, '::after').content;
                const context = document.createElement('canvas').getContext('2d');
                context.fillText = (text) => said.push(text);
                node.onDrawTitle?.(context);
                return said.join();
            }}""",
            node,
        )

    def await_state(self, node, state):
        self.until(
            "([path, state]) => window.timelineOf(path)?.dataset.state === state",
            [str(node), state],
        )
        return self.chart(node)

    def show(self, node):
        """Bring a node into the middle of the page, at its true size."""
        self.run(
            "id => { app.canvas.ds.scale = 1; app.canvas.centerOnNode(app.graph.getNodeById(id)) }",
            node,
        )
        self.frames()

    def note(self, node, name, wanted):
        """The text that a node shows, once it contains `wanted`."""
        text = """([id, name]) => app.graph.getNodeById(id).widgets
            .find((widget) => widget.name === name).element.textContent"""
        self.until(
            f"([id, name, wanted]) => ({text})([id, name]).includes(wanted)", [node, name, wanted]
        )
        return self.run(text, [node, name])

    @property
    def errors(self):
        """What the console shows that is not ComfyUI's own."""
        return [
            text for text in self.messages if not any(known in text for known in KNOWN_MESSAGES)
        ]


def store(address, settings):
    for name, value in settings.items():
        ask(address, f"/api/settings/{name}", value)


@contextlib.contextmanager
def opened(address, chromium, vue, window=None, **settings):
    """A new Page with ComfyUI's settings as given. `window`: Playwright's options of its window."""
    store(address, {**PAGE_SETTINGS, "Comfy.VueNodes.Enabled": vue, **settings})
    page = Page(
        chromium.new_page(**{"viewport": {"width": 1440, "height": 900}, **(window or {})}), address
    )
    page.open()
    yield page
    page.tab.close()
    assert page.errors == []
