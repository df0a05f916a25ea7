// A prompt as ComfyUI's API has it: {node id: {class_type, inputs}}. Pure.

/** The first node with a picture, no video, that is not SpeCa's own. */
export function pictureNode(prompt, outputs) {
  return Object.keys(outputs).find((id) => {
    const { images, animated } = outputs[id];
    return images?.length && !animated?.[0] && !prompt[id]?.class_type.startsWith("SpeCa");
  });
}

/** A node's id in a prompt of ours: the graph's own nodes hear nothing of it. */
export const other = (id) => `${id}_other`;

/**
 * The prompt with other inputs of a SpeCa node, whose model stays, and with other ids. The picture
 * of `target` is shown, not saved.
 */
export function withInputs(prompt, node, inputs, target) {
  const ids = Object.keys(prompt);
  const made = JSON.parse(JSON.stringify(prompt), (_, value) =>
    Array.isArray(value) && ids.includes(value[0]) ? [other(value[0]), value[1]] : value,
  );
  made[node].inputs = { ...inputs, model: made[node].inputs.model };
  if (made[target].class_type === "SaveImage")
    made[target] = { class_type: "PreviewImage", inputs: { images: made[target].inputs.images } };
  return Object.fromEntries(ids.map((id) => [other(id), made[id]]));
}
