// Questions to the server.
import { api } from "../../../scripts/api.js";

/** Its answer, JSON; `sent`, if any, is posted as JSON. A refusal is an error with its reason. */
export async function ask(path, sent, method = sent ? "POST" : "GET") {
  const headers = { "Content-Type": "application/json" };
  const answer = await api.fetchApi(path, { method, headers, body: sent && JSON.stringify(sent) });
  const told = await answer.json();
  if (answer.ok) return told;
  throw new Error(told.error?.message ?? told.error ?? answer.statusText);
}

/** The same where the page can do without: null, and a warning that the server "did not ...". */
export async function askIfAny(what, ...question) {
  try {
    return await ask(...question);
  } catch (error) {
    console.warn(`SpeCa: the server did not ${what}:`, error);
    return null;
  }
}

/** The settings of each quality. Without them the face works all the same: it has no buttons then. */
export const presets = (await askIfAny("send the presets", "/speca/presets")) ?? {};
