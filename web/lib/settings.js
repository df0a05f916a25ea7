// The node's widgets as SpecaConfig's JSON, and back. Pure.

const CHOICES = ["forecaster", "verifier", "budget"]; // each brings its entry's own settings

/** The widgets that hold settings: all that ComfyUI saves. */
export function settingWidgets(node) {
  return node.widgets.filter((widget) => widget.serialize !== false);
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
  return settings;
}

const namesOf = (node) => settingWidgets(node).map(({ name }) => name);
const widgetOf = (node, name) => node.widgets.find((widget) => widget.name === name);

function write(widget, value) {
  if (!widget || widget.value === value) return;
  widget.value = value;
  widget.callback?.(value);
}

/** Settings as the inputs of a prompt. A choice goes before its parts: in a node it makes them. */
export function inputsOf(settings) {
  const inputs = {};
  for (const [name, value] of Object.entries(settings)) {
    const { name: entry, ...parts } = CHOICES.includes(name) ? value : { name: value };
    inputs[name] = entry;
    for (const [part, setting] of Object.entries(parts)) inputs[`${name}.${part}`] = setting;
  }
  return inputs;
}

/** Write settings into the widgets, as if the user had. */
export function writeSettings(node, settings) {
  for (const [name, value] of Object.entries(inputsOf(settings)))
    write(widgetOf(node, name), value);
}

const NAMES = "speca_widgets"; // of the node: its widgets, in the order of its values

/** The names go with the values. */
export function keepNames(node, saved) {
  saved.properties = { ...saved.properties, [NAMES]: namesOf(node) };
}

/**
 * The same for a workflow of 0.1.0, before the page opens it: its nodes list their widgets among
 * their inputs, and the page sorts those into its own order.
 */
export function noteNames(workflow, kind) {
  const graphs = [workflow, ...(workflow.definitions?.subgraphs ?? [])];
  for (const node of graphs.flatMap(({ nodes }) => nodes ?? [])) {
    if (node.type !== kind || node.properties?.[NAMES]) continue;
    const names = node.inputs?.flatMap(({ widget }) => widget?.name ?? []);
    node.properties = { ...node.properties, [NAMES]: names };
  }
}

/** Give an opened node its values, whatever version saved it. */
export function restoreSettings(node, saved) {
  restoreByName(node, saved);
  for (const widget of settingWidgets(node)) // 0.1.0 saved 0 or 1 for some switches
    if (widget.type === "toggle") widget.value = Boolean(widget.value);
}

/**
 * By name. The page gives them by place, so in a workflow of a version with other widgets each value
 * behind the first difference would be its neighbour's.
 */
function restoreByName(node, saved) {
  const names = node.properties?.[NAMES];
  if (!Array.isArray(names) || !Array.isArray(saved.widgets_values)) return;
  const values = [...saved.widgets_values];
  const known = namesOf(node);
  const same = names.length === known.length && names.every((name) => known.includes(name));
  if (values.length < names.length || (same && values.length === names.length)) return;
  names.forEach((name, i) => {
    const widget = widgetOf(node, name);
    // More values than names: those that cannot be this widget's belong to one without a name.
    while (widget && values.length > names.length - i && !admits(widget, values[0])) values.shift();
    const value = values.shift();
    if (widget && admits(widget, value)) write(widget, value);
  });
}

function admits(widget, value) {
  const { values: choices, min, max } = widget.options ?? {};
  if (Array.isArray(choices)) return choices.includes(value);
  if (widget.type === "toggle") return [true, false, 0, 1].includes(value);
  return typeof value === "number" && !(value < min) && !(value > max);
}
