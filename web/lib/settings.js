// The node's widgets as SpecaConfig's JSON, and back. Pure: knows widgets, but neither the DOM nor ComfyUI.

const CHOICES = ["forecaster", "verifier", "budget"]; // these bring knobs along; all other widgets are plain values

const find = (node, name) => node.widgets?.find((widget) => widget.name === name);

/** The widgets that settings are made of: all that ComfyUI saves. */
export function settingWidgets(node) {
  return (node.widgets ?? []).filter((widget) => widget.serialize !== false);
}

/** The widgets' values as settings; null if a link feeds one of them, so that the widget does not say what will be used. */
export function settingsOf(node) {
  const settings = {};
  for (const widget of settingWidgets(node)) {
    const [name, knob] = widget.name.split(".");
    if (node.inputs?.some((input) => input.widget?.name === widget.name && input.link != null)) return null;
    if (!CHOICES.includes(name)) settings[name] = widget.value;
    else if (knob) (settings[name] ??= {})[knob] = widget.value;
    else settings[name] = { name: widget.value, ...settings[name] };
  }
  return CHOICES.every((name) => name in settings) ? settings : null;
}

/** Write settings into the widgets, as if the user had. A combo goes first: it brings its knobs along. */
export function writeSettings(node, settings) {
  const write = (name, value) => {
    const widget = find(node, name);
    if (!widget || widget.value === value) return;
    widget.value = value;
    widget.callback?.(value);
  };
  for (const [name, value] of Object.entries(settings)) {
    if (!CHOICES.includes(name)) {
      write(name, value);
      continue;
    }
    const { name: entry, ...knobs } = value;
    write(name, entry);
    for (const [knob, number] of Object.entries(knobs)) write(`${name}.${knob}`, number);
  }
}
