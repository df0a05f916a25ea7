// The node's widgets as SpecaConfig's JSON, and back. Pure: knows widgets, but neither the DOM nor ComfyUI.

const CHOICES = ["forecaster", "verifier", "budget"];
const PLAIN = ["threshold", "start", "end", "hindsight"];

const find = (node, name) => node.widgets?.find((widget) => widget.name === name);

/** The widgets' values as settings; null if a link feeds one of them, so that the widget does not say what will be used. */
export function settingsOf(node) {
  const settings = {};
  for (const widget of node.widgets ?? []) {
    const [name, knob] = widget.name.split(".");
    if (!CHOICES.includes(name) && !PLAIN.includes(name)) continue;
    if (node.inputs?.some((input) => input.widget?.name === widget.name && input.link != null)) return null;
    if (!CHOICES.includes(name)) settings[name] = widget.value;
    else if (knob) (settings[name] ??= {})[knob] = widget.value;
    else settings[name] = { name: widget.value, ...settings[name] };
  }
  return [...CHOICES, ...PLAIN].every((name) => name in settings) ? settings : null;
}

/** Write settings into the widgets, as if the user had. A combo goes first: it brings its knobs along. */
export function writeSettings(node, settings) {
  const write = (name, value) => {
    const widget = find(node, name);
    if (!widget || widget.value === value) return;
    widget.value = value;
    widget.callback?.(value);
  };
  for (const name of PLAIN) write(name, settings[name]);
  for (const name of CHOICES) {
    const { name: entry, ...knobs } = settings[name];
    write(name, entry);
    for (const [knob, value] of Object.entries(knobs)) write(`${name}.${knob}`, value);
  }
}

/** The widgets that settings are made of. */
export function settingWidgets(node) {
  return (node.widgets ?? []).filter(({ name }) => [...CHOICES, ...PLAIN].includes(name.split(".")[0]));
}
