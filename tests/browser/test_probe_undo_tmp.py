import json, os
from pathlib import Path
import pytest
from conftest import PACK, opened
from graphs import ACCELERATE, REPORT, fresh
exec(Path('/tmp/test_probe_undo.py').read_text().split('def test_probe')[0].split('fresh\n',1)[1])
FIX = '''
/**
 * Nodes 2.0 keeps on showing the element of the node that undo has replaced, and of the node with
 * the same id in the workflow before: put the new one in its place.
 */
function replaceStale(node, element) {
  const { onConfigure } = node;
  node.onConfigure = function (...values) {
    const result = onConfigure?.apply(this, values);
    requestAnimationFrame(() => {
      if (element.isConnected) return;
      const name = element.getAttribute("aria-label");
      const place = `[data-node-id="${node.id}"] [aria-label="${name}"]`;
      document.querySelector(place)?.replaceWith(element);
    });
    return result;
  };
}
function addElement('''
@pytest.mark.parametrize('fixed', [False, True])
def test_probe(comfy, chromium, fixed):
    with opened(comfy, chromium, vue=True) as page:
        if fixed:
            text = (PACK/'web/speca.js').read_text()
            text = text.replace('function addElement(', FIX, 1).replace('  widget.serialize = false;\n', '  widget.serialize = false;\n  replaceStale(node, element);\n', 1)
            page.tab.route('**/speca.js*', lambda route: route.fulfill(body=text, content_type='text/javascript'))
            page.open()
        page.load(fresh())
        assert page.queue() == "execution_success"
        page.await_state(ACCELERATE, "measured")
        def show(tag):
            page.frames(30)
            s = page.run(STATE, [ACCELERATE, REPORT])
            print(fixed, tag, {k: (v['connected'], v['visible'], v['shown'], v['same'], v['state'], v['shownText']) for k, v in s.items()})
        show('before')
        page.run("""id => { const n = app.graph.getNodeById(id); n.pos = [n.pos[0] + 40, n.pos[1]]; }""", ACCELERATE)
        tracker = "app.extensionManager.workflow.activeWorkflow.changeTracker"
        page.run(f"() => {tracker}.checkState()")
        page.run(f"() => {tracker}.undo()"); show('undo')
        page.run(f"() => {tracker}.redo()"); show('redo')
        # click the visible chart's preset
        r = page.run("""() => { const host = [...document.querySelectorAll('[aria-label="SpeCa timeline"]')].find((e) => e.checkVisibility());
          const b = host.shadowRoot.querySelector('[data-preset=fast]') ?? host.shadowRoot.querySelectorAll('[data-preset]')[2]; b.click(); return b.dataset.preset; }""")
        page.frames(20)
        print(fixed, 'clicked', r, page.run("id => app.graph.getNodeById(id).widgets.map((w) => [w.name, w.value])", ACCELERATE)[:6])
        page.run("() => {app.graph.nodes.find((n)=>n.type==='KSampler').widgets[0].value += 1}")
        print(fixed, 'second run', page.queue()); page.frames(60); show('after run')
        print(fixed, 'chart', {k: v for k, v in page.chart(ACCELERATE).items() if k in ('state','preset','visible','gain')})
        # another workflow with the same ids, and back
        page.load(fresh()); show('other workflow')
        page.run("() => app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')"); show('back')
        page.run("() => app.extensionManager.command.execute('Workspace.NextOpenedWorkflow')"); show('forth')
        # collapse
        for _ in range(2):
            page.run("id => app.graph.getNodeById(id).collapse()", ACCELERATE); page.frames()
        show('collapsed and back')
        print(fixed, 'errors', page.errors)
