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
  return settings;
}

function write(node, name, value) {
  const widget = node.widgets?.find((candidate) => candidate.name === name);
  if (!widget || widget.value === value) return;
  widget.value = value;
  widget.callback?.(value);
}

/** Settings as the inputs of a prompt. A choice goes before its parts: in a node it makes them. */
export function inputsOf(settings) {
  const inputs = {};
  for (const [name, value] of Object.entries(settings)) {
    if (!CHOICES.includes(name)) {
      inputs[name] = value;
      continue;
    }
    const { name: entry, ...parts } = value;
    inputs[name] = entry;
    for (const [part, setting] of Object.entries(parts)) inputs[`${name}.${part}`] = setting;
  }
  return inputs;
}

/** Write settings into the widgets, as if the user had. */
export function writeSettings(node, settings) {
  for (const [name, value] of Object.entries(inputsOf(settings))) write(node, name, value);
}

const NAMES = "speca_widgets"; // of the node: its widgets, in the order of its values

/** The names go with the values. */
export function keepNames(node, saved) {
  saved.properties = {
    ...saved.properties,
    [NAMES]: settingWidgets(node).map(({ name }) => name),
  };
}

/**
 * The same for a workflow of 0.1.0, before the page opens it: its nodes list their widgets among
 * their inputs, and the page sorts those into its own order.
 */
export function noteNames(workflow, kind) {
  const graphs = [workflow, ...(workflow?.definitions?.subgraphs ?? [])];
  for (const node of graphs.flatMap((graph) => graph?.nodes ?? [])) {
    if (node?.type !== kind || node.properties?.[NAMES] || !Array.isArray(node.inputs)) continue;
    const names = node.inputs.filter((input) => input?.widget).map(({ widget }) => widget.name);
    node.properties = { ...node.properties, [NAMES]: names };
  }
}

/**
 * Give an opened node its values by name. The page gives them by place, so in a workflow of a
 * version with other widgets each value behind the first difference would be its neighbour's.
 */
export function restoreByName(node, saved) {
  const kept = node.properties?.[NAMES];
  const names = Array.isArray(kept) ? kept : [];
  const values = Array.isArray(saved?.widgets_values) ? [...saved.widgets_values] : [];
  const known = settingWidgets(node).map(({ name }) => name);
  const same = names.length === known.length && names.every((name) => known.includes(name));
  if (!names.length || values.length < names.length) return;
  if (same && values.length === names.length) return;
  names.forEach((name, i) => {
    const widget = node.widgets.find((candidate) => candidate.name === name);
    // More values than names: those that cannot be this widget's belong to one without a name.
    while (widget && values.length > names.length - i && !admits(widget, values[0])) values.shift();
    const value = values.shift();
    if (widget && admits(widget, value)) write(node, name, value);
  });
}

function admits(widget, value) {
  const { values: choices, min, max } = widget.options ?? {};
  if (Array.isArray(choices)) return choices.includes(value);
  if (widget.type === "toggle") return value === Boolean(value) || value === 0 || value === 1;
  return typeof value === "number" && !(value < min) && !(value > max);
}

/** Workflows saved by 0.1.0 hold 0 or 1 for some switches. */
export function upgradeSwitches(node) {
  for (const widget of settingWidgets(node))
    if (widget.type === "toggle") widget.value = Boolean(widget.value);
}
