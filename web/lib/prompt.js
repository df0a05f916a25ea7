// A prompt as ComfyUI's API has it: {node id: {class_type, inputs}}. Pure.

/** The first node that showed or saved a picture, not one of SpeCa's own; null if none did. */
export function pictureNode(prompt, outputs) {
  const found = Object.keys(outputs).find(
    (id) => outputs[id].images?.length && !prompt[id]?.class_type.startsWith("SpeCa"),
  );
  return found ?? null;
}

/**
 * The prompt with other inputs of a SpeCa node, whose model stays. The node has another id there:
 * what the server tells of the run is not the graph's own. The picture of `target` is shown, not
 * saved.
 */
export function withInputs(prompt, node, inputs, target) {
  const { [node]: entry, ...rest } = prompt;
  const id = `${node}_other`;
  const other = (value) =>
    Array.isArray(value) && value[0] === String(node) ? [id, ...value.slice(1)] : value;
  const made = { ...rest, [id]: { ...entry, inputs: { ...inputs, model: entry.inputs.model } } };
  for (const [name, each] of Object.entries(made)) {
    const linked = Object.entries(each.inputs).map(([input, value]) => [input, other(value)]);
    made[name] = { ...each, inputs: Object.fromEntries(linked) };
  }
  const { class_type: kind, inputs: shown } = made[target];
  if (kind === "SaveImage")
    made[target] = { class_type: "PreviewImage", inputs: { images: shown.images } };
  return made;
}
