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
  const made = {};
  for (const [id, entry] of Object.entries(prompt)) {
    if (id in left) continue;
    const inputs = Object.entries(entry.inputs).map(([name, value]) => [name, source(value)]);
    made[id] = { ...entry, inputs: Object.fromEntries(inputs) };
  }
  const { images } = made[target].inputs;
  if (made[target].class_type === "SaveImage")
    made[target] = { class_type: "PreviewImage", inputs: { images } };
  return made;
}
