// The node's widgets as SpecaConfig's JSON, and back. Pure: knows widgets, not the DOM or ComfyUI.

const CHOICES = ["forecaster", "verifier", "budget"]; // each brings its entry's own settings

/** The widgets that hold settings: all that ComfyUI saves. */
export function settingWidgets(node) {
  return (node.widgets ?? []).filter((widget) => widget.serialize !== false);
}

/** The widgets' values as settings; null if a link feeds one: its value is not known yet. */
export function settingsOf(node) {
  const settings = {};
  for (const widget of settingWidgets(node)) {
    const [name, part] = widget.name.split(".");
    const linked = (input) => input.widget?.name === widget.name && input.link != null;
    if (node.inputs?.some(linked)) return null;
    if (!CHOICES.includes(name)) settings[name] = widget.value;
    else if (part) settings[name] = { ...settings[name], [part]: widget.value };
    else settings[name] = { name: widget.value, ...settings[name] };
  }
  return CHOICES.every((name) => name in settings) ? settings : null;
}

/** Write settings into the widgets, as if the user had. A combo goes first: it makes the others. */
export function writeSettings(node, settings) {
  const write = (name, value) => {
    const widget = node.widgets?.find((candidate) => candidate.name === name);
    if (!widget || widget.value === value) return;
    widget.value = value;
    widget.callback?.(value);
  };
  for (const [name, value] of Object.entries(settings)) {
    if (!CHOICES.includes(name)) {
      write(name, value);
      continue;
    }
    const { name: entry, ...parts } = value;
    write(name, entry);
    for (const [part, setting] of Object.entries(parts)) write(`${name}.${part}`, setting);
  }
}

/** Workflows saved by 0.1.0 hold 0 or 1 for some switches. */
export function upgradeSwitches(node) {
  for (const widget of settingWidgets(node))
    if (widget.type === "toggle") widget.value = Boolean(widget.value);
}
