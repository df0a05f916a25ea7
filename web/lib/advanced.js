// Advanced settings, folded on the classic canvas as Nodes 2.0 folds them by itself.
import { setting } from "./page.js";
import { settingWidgets } from "./settings.js";

/** Mark a node's advanced widgets, also those that a combo has just made. */
export function markAdvanced(node) {
  const folded = !setting("Comfy.Node.AlwaysShowAdvancedWidgets");
  for (const widget of settingWidgets(node)) if (widget.options?.advanced) widget.advanced = folded;
}

/** Folded widgets take no room either. */
export function foldAdvanced(node) {
  node.getLayoutWidgets = function () {
    const shown = ({ hidden, advanced }) => !hidden && (this.showAdvanced || !advanced);
    return this.widgets.filter(shown);
  };
}

export const hasAdvanced = (node) => settingWidgets(node).some(({ advanced }) => advanced);
