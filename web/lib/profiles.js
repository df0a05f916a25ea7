// Profiles: listed; and carried by workflows, so that whoever has the same model need not teach it.
import { api } from "../../../scripts/api.js";
import { ask, askIfAny } from "./ask.js";
import { openDialog, orAlert } from "./dialog.js";
import { button, html } from "./dom.js";
import { keep, words } from "./page.js";
import { joined } from "./sentence.js";

const PATH = "/speca/profiles";
const CARRIED = "speca_profile"; // of the node; nodes/runtime/page/workflow_metadata.py reads it
const MOST_CHARACTERS = 16_384;

/** Put the profile of a run's model into the workflow, at its node. */
export async function carryProfile(node, name) {
  if (!name) return;
  const profile = await askIfAny("send the profile", `${PATH}/${name}`);
  if (profile && JSON.stringify(profile).length <= MOST_CHARACTERS) keep(node, CARRIED, profile);
}

/** A dialog that lists what is known, to be deleted, or handed on as a file. */
export async function showProfiles() {
  const told = words();
  const list = html("div", "profiles");
  const fill = async () => list.replaceChildren(...(await rows(told, fill)));
  await orAlert(fill);
  const file = html("input", { type: "file", accept: ".json", hidden: true });
  const take = async () => {
    await ask(PATH, JSON.parse(await file.files[0].text()));
    await fill();
  };
  file.addEventListener("change", () => orAlert(take));
  const open = button("pill", () => file.click(), told.openProfile);
  openDialog(told, [html("h3", "", told.profiles), list], [file, open, html("i")]);
}

async function rows(told, fill) {
  const known = Object.entries(await ask(PATH));
  if (!known.length) return [told.noProfiles];
  return known.map(([name, { model, changed, profiles }]) => {
    const scales = profiles.map(({ guidance, runs }) => told.learnedFrom(guidance, runs));
    const link = { href: api.apiURL(`${PATH}/${name}`), download: `speca ${model}.json` };
    const save = html("a", { className: "pill", ...link }, told.saveProfile);
    const forget = async () => {
      if (!confirm(told.reallyDelete(model))) return;
      await ask(`${PATH}/${name}`, null, "DELETE");
      await fill();
    };
    const remove = button("pill forget", () => orAlert(forget), told.deleteProfile);
    const learned = html("small", "", joined(...scales, new Date(1000 * changed).toLocaleString()));
    return html("div", "told", html("b", "", model), learned, html("i"), save, remove);
  });
}
