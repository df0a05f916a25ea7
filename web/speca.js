// The only file here with side effects: ComfyUI imports every .js below web/ by itself, in any order.
import { app } from "../../scripts/app.js";

const REPORT = "SpeCaReport";

/** A block of text below the node's other widgets; not part of the workflow. */
function addTextWidget(node) {
  const element = document.createElement("div");
  element.setAttribute("aria-label", "SpeCa report");
  element.style.cssText =
    "font: 12px/1.5 sans-serif; color: var(--input-text); background: var(--comfy-input-bg); border-radius: 6px;" +
    "padding: 6px 10px; white-space: pre-wrap; overflow: auto; box-sizing: border-box; user-select: text;";
  element.textContent = "Queue the graph: the run will be shown here.";
  const widget = node.addDOMWidget("report", "speca_text", element, {
    serialize: false,
    hideOnZoom: false,
    hideInPanel: true,
    getMinHeight: () => 72,
    getMaxHeight: () => 96,
  });
  widget.serialize = false;
  return element;
}

app.registerExtension({
  name: "speca.report",
  nodeCreated(node) {
    if (node.comfyClass !== REPORT) return;
    const element = addTextWidget(node);
    const before = node.onExecuted;
    node.onExecuted = function (output) {
      before?.apply(this, arguments);
      if (output?.text) element.textContent = output.text.join("\n");
    };
  },
});
