// A prompt as ComfyUI's API has it: {node id: {class_type, inputs}}. Pure.

/** The first node that showed or saved a picture, not one of SpeCa's own. */
export function pictureNode(prompt, outputs) {
  return Object.keys(outputs).find(
    (id) => outputs[id].images?.length && !prompt[id]?.class_type.startsWith("SpeCa"),
  );
}

/**
 * The prompt with other inputs of a SpeCa node, whose model stays. The node has another id there:
 * what the server tells of the run is not the graph's own. The picture of `target` is shown, not
 * saved.
 */
export function withInputs(prompt, node, inputs, target) {
  const id = `${node}_other`;
  const { [node]: entry, ...made } = JSON.parse(JSON.stringify(prompt), (_, value) =>
    Array.isArray(value) && value[0] === node ? [id, value[1]] : value,
  );
  made[id] = { ...entry, inputs: { ...inputs, model: entry.inputs.model } };
  const { class_type: kind, inputs: shown } = made[target];
  if (kind === "SaveImage")
    made[target] = { class_type: "PreviewImage", inputs: { images: shown.images } };
  return made;
}
