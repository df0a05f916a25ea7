// Compare with original: the graph of a run once more, with SpeCa left out or at another quality,
// beside its own picture.
import { api } from "../../../scripts/api.js";
import { words } from "./page.js";
import { loaded } from "./pictures.js";
import { bypassed, pictureNode, withSettings } from "./prompt.js";
import { gainOf, unpack } from "./report.js";
import { inputsOf } from "./settings.js";
import { contactSheet } from "./sheet.js";
import { wipe } from "./wipe.js";

/**
 * Of one node. `presets`: name -> settings, of the contact sheet. `changed()` is called when the
 * button has to be drawn again.
 */
export class Original {
  constructor(presets, changed) {
    this.presets = presets;
    this.changed = changed;
    this.known = null; // {prompt: id, graph, node, image} of the run that is shown
    this.busy = false;
  }

  /** For the face: the button's text, or null where there is nothing to compare. */
  button(run, state, told) {
    if (!run?.ids.prompt || !["measured", "whatif"].includes(state)) return { original: null };
    if (this.known?.prompt !== run.ids.prompt) this._find(run.ids.prompt);
    if (!this.known?.image || unpack(run.report).totals.accepted === 0) return { original: null };
    return { original: this.busy ? told.originalRuns : told.original, busy: this.busy };
  }

  /** A prompt has ended: its picture may be there now. */
  ended() {
    if (this.known?.image) return;
    this.known = null;
    this.changed();
  }

  async _find(prompt) {
    this.known = { prompt };
    const entry = (await history(prompt))?.[prompt];
    if (!entry || this.known?.prompt !== prompt) return; // meanwhile another run may have ended
    const graph = entry.prompt[2];
    const node = pictureNode(graph, entry.outputs);
    if (node) this.known = { prompt, graph, node, image: entry.outputs[node].images[0] };
    this.changed();
  }

  /** Queue it, wait for it, and show both. `root`: where the dialog goes. */
  async make(run, root) {
    if (this.busy || !this.known?.image) return;
    const { known } = this;
    const { graph, node, image } = known;
    await this._working(async () => {
      const original = bypassed(graph, run.ids.node, node);
      const made = await queued(original, node, run.ids.sampler);
      const gain = gainOf(unpack(run.report));
      const plain = { image: made.image, seconds: made.seconds ?? gain?.plain };
      const speca = {
        image: await loaded(addressOf(image)),
        seconds: gain && gain.plain - gain.saved,
      };
      wipe(root, words(), plain, speca, () => this._sheet(run, root, plain, known));
    });
  }

  /** The same prompt at every quality, beside the original. */
  async _sheet(run, root, plain, { graph, node }) {
    const told = words();
    const others = Object.entries(this.presets).map(([name, settings]) => ({
      label: told.qualities[name] ?? name,
      make: () =>
        queued(withSettings(graph, run.ids.node, inputsOf(settings), node), node, run.ids.sampler),
    }));
    await this._working(() => contactSheet(root, told, plain, others));
  }

  async _working(work) {
    this.busy = true;
    this.changed();
    try {
      await work();
    } catch (error) {
      console.warn("SpeCa: the picture could not be made:", error);
      globalThis.alert?.(`${words().pictureFailed} ${error.message}`);
    } finally {
      this.busy = false;
      this.changed();
    }
  }
}

async function history(prompt) {
  const answer = await api.fetchApi(`/history/${prompt}`);
  return answer.ok ? answer.json() : null;
}

const addressOf = (image) => api.apiURL(`/view?${new URLSearchParams(image)}`);

/** Run a prompt for one node's picture; {image: the element, seconds of the sampler}. */
async function queued(prompt, node, sampler) {
  const clock = new Clock(sampler);
  try {
    const answer = await api.fetchApi("/prompt", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        prompt,
        client_id: api.clientId,
        partial_execution_targets: [node],
      }),
    });
    const sent = await answer.json();
    if (!answer.ok) throw new Error(sent.error?.message ?? answer.statusText);
    await clock.end(sent.prompt_id);
    const entry = (await history(sent.prompt_id))?.[sent.prompt_id];
    const image = entry?.outputs[node]?.images?.[0];
    if (!image) throw new Error(entry?.status?.status_str ?? "no picture");
    return { image: await loaded(addressOf(image)), seconds: clock.seconds };
  } finally {
    clock.stop();
  }
}

/** Of an `executing` event: the server has written the prompt into its history. */
export const isEnd = (detail) => !(typeof detail === "object" ? detail?.node : detail);

const ENDS = ["execution_success", "execution_error", "execution_interrupted"];

/** Times a node of the prompts that run while it listens, and waits for the end of one. */
class Clock {
  constructor(node) {
    this.seconds = null;
    this.ended = new Set();
    this.listening = new AbortController();
    let began = null;
    let over = null; // ended, but not yet in the history
    this._on("executing", ({ detail }) => {
      const now = performance.now();
      const id = typeof detail === "object" ? detail?.node : detail;
      if (isEnd(detail)) this._tell(over);
      if (began !== null) this.seconds = (now - began) / 1000;
      began = String(id) === String(node) ? now : null;
    });
    for (const end of ENDS) this._on(end, ({ detail }) => (over = detail.prompt_id));
  }

  _tell(prompt) {
    this.ended.add(prompt);
    this.told?.();
  }

  _on(name, heard) {
    api.addEventListener(name, heard);
    this.listening.signal.addEventListener("abort", () => api.removeEventListener(name, heard));
  }

  async end(prompt) {
    while (!this.ended.has(prompt)) await new Promise((told) => (this.told = told));
  }

  stop() {
    this.listening.abort();
  }
}
