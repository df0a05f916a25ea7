// A prompt as ComfyUI's API has it: {node id: {class_type, inputs}}. Pure.

const PASS = { SpeCaReport: "latent" }; // hands its input on

/** The first node that showed or saved a picture, not one of SpeCa's own; null if none did. */
export function pictureNode(prompt, outputs) {
  const found = Object.keys(outputs).find(
    (id) => outputs[id].images?.length && !prompt[id]?.class_type.startsWith("SpeCa"),
  );
  return found ?? null;
}

/**
 * The prompt without a SpeCa node, as if it were bypassed, and without reports on it. The
 * picture of `target` is shown, not saved.
 */
export function bypassed(prompt, node, target) {
  const left = { [node]: "model" };
  for (const [id, { class_type: kind }] of Object.entries(prompt))
    if (kind in PASS) left[id] = PASS[kind];
  const source = (value) => {
    let origin = value;
    while (Array.isArray(origin) && origin[0] in left)
      origin = prompt[origin[0]].inputs[left[origin[0]]];
    return origin;
  };
  const kept = Object.fromEntries(Object.entries(prompt).filter(([id]) => !(id in left)));
  return shown(linked(kept, source), target);
}

/**
 * The prompt with other settings in a SpeCa node. The node has another id there: what the server
 * tells of the run is not the graph's own. The picture of `target` is shown, not saved.
 */
export function withSettings(prompt, node, inputs, target) {
  const { [node]: entry, ...rest } = prompt;
  const id = `${node}_other`;
  const { model } = entry.inputs;
  const made = { ...rest, [id]: { ...entry, inputs: { model, ...inputs } } };
  const source = (value) =>
    Array.isArray(value) && value[0] === String(node) ? [id, ...value.slice(1)] : value;
  return shown(linked(made, source), target);
}

function linked(prompt, source) {
  const made = Object.entries(prompt).map(([id, entry]) => {
    const inputs = Object.entries(entry.inputs).map(([name, value]) => [name, source(value)]);
    return [id, { ...entry, inputs: Object.fromEntries(inputs) }];
  });
  return Object.fromEntries(made);
}

function shown(prompt, target) {
  const { class_type: kind, inputs } = prompt[target];
  if (kind !== "SaveImage") return prompt;
  return { ...prompt, [target]: { class_type: "PreviewImage", inputs: { images: inputs.images } } };
}
