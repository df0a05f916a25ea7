// What SpeCa has learned of a model, in the page: carried by workflows, so that whoever opens one and
// has the same model need not teach SpeCa again.
import { api } from "../../../scripts/api.js";
import { silently } from "./page.js";

const CARRIED = "speca_profile"; // of the node; nodes/runtime/page/workflow_metadata.py reads it
const MOST_CHARACTERS = 16_384;

/** Put the profile of a run's model into the workflow, at its node. */
export async function carryProfile(node, name) {
  if (!name) return;
  try {
    const answer = await api.fetchApi(`/speca/profiles/${name}`);
    if (!answer.ok) return; // forgotten meanwhile
    const profile = await answer.json();
    if (JSON.stringify(profile).length > MOST_CHARACTERS) return;
    silently(node, (each) => {
      each.properties ??= {};
      each.properties[CARRIED] = structuredClone(profile);
    });
  } catch (error) {
    console.warn("SpeCa: the server did not send the profile:", error);
  }
}
