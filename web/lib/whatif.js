// Questions to the server: how would a run have gone with other settings?
import { api } from "../../../scripts/api.js";

/**
 * The server's answer, see nodes/runtime/page/routes.py; null if it has none. The report travels
 * only if the server knows the run no more.
 */
export async function whatIf(run, settings, brief = false) {
  const question = { run: run.ids.run, settings, ...(brief && { brief }) };
  const answer = await ask(question);
  return answer?.unknown ? ask({ ...question, report: run.report }) : answer;
}

async function ask(question) {
  try {
    const answer = await api.fetchApi("/speca/what_if", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(question),
    });
    const found = await answer.json();
    if (answer.ok) return found;
    throw new Error(found.error ?? answer.statusText);
  } catch (error) {
    console.warn("SpeCa: the server did not answer what-if:", error);
    return null;
  }
}
