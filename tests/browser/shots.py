"""Remake the pictures of the docs from the present version.

    COMFYUI_PATH=... python tests/browser/shots.py [name ...]

Each function below `picture` makes one file of docs/images, web/docs or out/states; without names
all are made.
`compare.png` times plain against accelerated sampling: let nothing else run on the machine.
"""

import contextlib
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import PACK, ask, browser, opened, serving, teach
from graphs import ACCELERATE, COMPARE, REPORT, SAMPLER, demo, fresh, spaces
from PIL import Image
from test_files import EXAMPLES, pictures

DOCS, HELP = PACK / "docs/images", PACK / "web/docs"
STATES = PACK / "out/states"  # to look at
MOST_BYTES = 150_000  # of a picture; a larger one gets by with 256 colours
PAPER = "#141414"
QUIET = {
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
    "Comfy.NodeBadge.NodeIdBadgeMode": "None",
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
}
# Only the canvas: no menus, side bars and messages.
BARE = """() => {
    const style = document.createElement('style');
    style.textContent = `.comfyui-body-top, .comfyui-body-left, .comfyui-body-right,
        .comfyui-body-bottom, .side-tool-bar-container, .actionbar, .actionbar-container,
        .workflow-tabs-container, .p-toast, .p-buttongroup, .p-splitter-gutter,
        [data-testid=queue-notification-banner], [data-testid=error-overlay],
        [data-testid=subgraph-breadcrumb] { visibility: hidden !important }`;
    document.head.append(style);
}"""
PICTURES = {}


def picture(folder, name):
    def add(make):
        PICTURES[name] = (folder / name, make)
        return make

    return add


class Studio:
    """A server and a browser; `page(...)` opens a page at twice the pixels."""

    def __init__(self, address, chromium):
        self.address, self.chromium = address, chromium

    @contextlib.contextmanager
    def page(self, vue=True, theme="dark", width=1440, height=1000, sharp=2):
        window = {"viewport": {"width": width, "height": height}, "device_scale_factor": sharp}
        settings = {**QUIET, "Comfy.ColorPalette": theme}
        with opened(self.address, self.chromium, vue, window, **settings) as page:
            page.run(BARE)
            yield page


# --- what is in the pictures ------------------------------------------------------------------


def place(page, node=ACCELERATE, width=400):
    """A node alone, at its true size."""
    page.run(
        """([id, width]) => {
            const node = app.graph.getNodeById(id);
            node.pos = [60, 90];
            node.setSize([width, node.computeSize()[1]]);
            for (const other of app.graph.nodes)
                if (other !== node) other.pos = [other.pos[0] + 6000, other.pos[1]];
            app.canvas.links_render_mode = LiteGraph.HIDDEN_LINK;
            app.canvas.ds.scale = 1;
            app.canvas.ds.offset = [60, 60];
            app.canvas.setDirty(true, true);
        }""",
        [node, width],
    )
    page.frames(20)


def shot(page, nodes=(ACCELERATE,), margin=8):
    """The rectangle around some nodes."""
    page.tab.mouse.move(5, 5)
    page.frames(20)
    box = page.run(
        """([ids, margin]) => {
            const {scale, offset} = app.canvas.ds;
            const canvas = app.canvas.canvas.getBoundingClientRect();
            const boxes = ids.map((id) => {
                const element = document.querySelector(`[data-node-id="${id}"]`);
                const shown = LiteGraph.vueNodesMode && element?.getBoundingClientRect();
                if (shown) return [shown.left, shown.top, shown.right, shown.bottom];
                const {pos, size} = app.graph.getNodeById(id);
                const x = (pos[0] + offset[0]) * scale + canvas.left;
                const y = (pos[1] + offset[1]) * scale + canvas.top;
                const top = y - LiteGraph.NODE_TITLE_HEIGHT * scale;
                return [x, top, x + size[0] * scale, y + size[1] * scale];
            });
            const least = (i) => Math.min(...boxes.map((box) => box[i])) - margin;
            const most = (i) => Math.max(...boxes.map((box) => box[i])) + margin;
            const [x, y] = [least(0), least(1)];
            return {x, y, width: most(2) - x, height: most(3) - y};
        }""",
        [list(nodes), margin],
    )
    return opened_picture(page.tab.screenshot(clip=box))


def pictured(page, node):
    """Wait until a node of the classic canvas shows its pictures."""
    page.until("id => app.graph.getNodeById(id).imgs?.every((image) => image.complete)", node)


def measured(page, **options):
    """A run of the demo that has ended, and only the node."""
    teach(page)
    page.load(fresh(**{"steps": 28, "pixels": 192, **options}))
    place(page)
    assert page.queue() == "execution_success"
    page.await_state(ACCELERATE, "measured")
    page.answered()


def whatif(page, threshold):
    page.set(ACCELERATE, "threshold", threshold)
    page.answered()
    page.await_state(ACCELERATE, "whatif")


def faces(page):
    """The states of the node, one picture each: new, learning, running, done, what-if, nothing
    gained, noise, too fast, four images, an error."""

    def load(**options):
        page.load(fresh(**options))
        place(page, width=340)

    def queue(**changed):
        for name, value in changed.items():
            page.set(SAMPLER if name == "sampler_name" else ACCELERATE, name, value)
        page.queue()
        page.until(f"() => !['empty', 'live'].includes(timelineOf({ACCELERATE}).dataset.state)")
        page.answered()

    def halfway(steps, cells):
        load(steps=steps, pixels=256)
        page.start()
        shown = f"timelineOf({ACCELERATE}).shadowRoot.querySelectorAll('.bar').length"
        page.until(f"() => {shown} >= {cells}")
        taken = shot(page)
        page.run("() => app.api.interrupt(null)")
        page.end()
        return taken

    load(steps=28)
    yield shot(page)
    yield halfway(100, 8)  # more steps than were learned
    yield halfway(50, 20)
    load(steps=28)
    queue()
    yield shot(page)
    whatif(page, 0.1)
    yield shot(page)
    load(steps=12)
    queue(threshold=0.005)
    yield shot(page)
    load(steps=28)
    queue(sampler_name="euler_ancestral")
    yield shot(page)
    load(steps=28)
    queue()
    whatif(page, 0.4)
    yield shot(page)
    load(steps=28, images=4)
    queue()
    yield shot(page)
    load(steps=28)
    queue(start=0.9, end=0.5)
    yield shot(page)


def opened_picture(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def side_by_side(*images, gap=24):
    """Pictures beside each other, on the tops."""
    sheet = Image.new(
        "RGB",
        (sum(i.width for i in images) + gap * (len(images) - 1), max(i.height for i in images)),
        images[0].getpixel((0, 0)),
    )
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + gap
    return sheet


# --- the pictures -----------------------------------------------------------------------------


@picture(DOCS, "node.png")
def node(studio):
    """The node after a run, and the what-if while the threshold is dragged."""
    with studio.page() as page:
        measured(page)
        first = shot(page)
        whatif(page, 0.12)
        return side_by_side(first, shot(page))


def states(vue, theme):
    """Makes a sheet of all states in a renderer."""

    def make(studio):
        with studio.page(vue=vue, theme=theme, sharp=1) as page:
            teach(page)
            taken = [*faces(page)]
        rows = [side_by_side(*taken[i : i + 5], gap=12) for i in (0, 5)]
        sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), PAPER)
        sheet.paste(rows[0], (0, 0))
        sheet.paste(rows[1], (0, rows[0].height))
        return sheet

    return make


for vue, renderer in ((False, "canvas"), (True, "nodes2")):
    for theme in ("dark", "light"):
        picture(STATES, f"states-{renderer}-{theme}.png")(states(vue, theme))


@picture(STATES, "contact.png")
def contact(studio):
    """Compare with original, and from there the contact sheet."""
    with studio.page() as page:
        measured(page)
        inside = f"timelineOf({ACCELERATE}).shadowRoot"
        page.until(f"() => !{inside}.querySelector('.original').hidden")
        page.run(f"() => {inside}.querySelector('.original').click()")
        page.tab.locator("dialog .sheet").click()
        page.tab.locator(".tile").nth(4).locator("img").wait_for()
        page.frames(20)
        return opened_picture(page.tab.locator("dialog").screenshot())


@picture(DOCS, "graph.png")
def graph(studio):
    """The graph of the demo, as the template has it."""
    return whole(studio, demo(images=4, steps=28, pixels=192, text=spaces()), 2000)


def whole(studio, workflow, width):
    """A whole graph in the classic canvas; run, if its models are there."""
    with studio.page(vue=False, width=2800, height=1500, sharp=1) as page:
        page.load(workflow)
        models = ask(page.address, "/object_info/UNETLoader")["UNETLoader"]["input"]["required"][
            "unet_name"
        ][0]
        loaded = [
            entry["widgets_values"][0]
            for entry in workflow["nodes"]
            if entry["type"] == "UNETLoader"
        ]
        if loaded and all(name in models for name in loaded):
            assert page.queue() == "execution_success"
            for entry in workflow["nodes"]:
                if entry["type"] in ("SpeCaReport", "SpeCaCompare", "SaveImage"):
                    pictured(page, entry["id"])
        everything = page.run(
            """() => {
                const {nodes, canvas} = {nodes: app.graph.nodes, canvas: app.canvas};
                const least = (place) => Math.min(...nodes.map(place));
                const most = (place) => Math.max(...nodes.map(place));
                const left = least(({pos}) => pos[0]), top = least(({pos}) => pos[1]);
                const wide = most(({pos, size}) => pos[0] + size[0]) - left;
                const tall = most(({pos, size}) => pos[1] + size[1]) - top;
                canvas.ds.scale = Math.min(1, 2600 / wide, 1340 / tall);
                canvas.ds.offset = [80 / canvas.ds.scale - left, 110 / canvas.ds.scale - top];
                for (const node of nodes) { // that models are not here is no news
                    node.has_errors = false;
                    node.strokeStyles = {};
                    for (const input of node.inputs ?? []) input.hasErrors = false;
                }
                canvas.setDirty(true, true);
                return nodes.map((node) => node.id);
            }"""
        )
        taken = shot(page, everything, margin=12)
    taken.thumbnail((width, width), Image.Resampling.LANCZOS)
    return taken


def template(path):
    """The card of an example workflow."""
    workflow = json.loads(path.read_text(encoding="utf-8"))
    picture(path.parent, f"{path.stem}.jpg")(lambda studio: whole(studio, workflow, 960))


for example in EXAMPLES:
    template(example)


@picture(DOCS, "compare.png")
def compare(studio):
    """What `run.py demo` makes."""
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([sys.executable, PACK / "demo/client.py", studio.address, out], check=True)
        sheet = Image.open(Path(out) / "compare.png").convert("RGB")
    sheet.thumbnail((1192, 1192), Image.Resampling.LANCZOS)
    return sheet


@picture(HELP, "timeline.png")
def timeline(studio):
    """The face alone."""
    with studio.page() as page:
        measured(page)
        page.answered()
        page.frames(20)
        return opened_picture(page.tab.get_by_label("SpeCa timeline", exact=True).screenshot())


@picture(HELP, "report.png")
def report(studio):
    """The picture that SpeCa Report hands on."""
    with studio.page() as page:
        measured(page, images=4)
        return opened_picture(pictures(page, REPORT)[0])


@picture(HELP, "compare.jpg")
def compare_node(studio):
    """What SpeCa Compare shows of the first two images."""
    with studio.page() as page:
        page.load(COMPARE)
        assert page.queue() == "execution_success"
        node = page.run("() => app.graph.nodes.find((node) => node.type === 'SpeCaCompare').id")
        first, second = map(opened_picture, pictures(page, node)[:2])
    sheet = Image.new("RGB", (first.width, first.height + second.height + 4), PAPER)
    sheet.paste(first, (0, 0))
    sheet.paste(second, (0, first.height + 4))
    return sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.LANCZOS)


def main():
    names = sys.argv[1:] or list(PICTURES)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder) / "log.txt") as address,
        browser() as chromium,
    ):
        studio = Studio(address, chromium)
        for name in names:
            path, make = PICTURES[name]
            image = make(studio)
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=86, optimize=True)
            if path.stat().st_size > MOST_BYTES:
                image.quantize(
                    256, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE
                ).save(path, optimize=True)
            size = f"{image.width} x {image.height}  {path.stat().st_size} bytes"
            print(f"{path.relative_to(PACK)}  {size}", flush=True)  # noqa: T201 - a command


if __name__ == "__main__":
    main()
