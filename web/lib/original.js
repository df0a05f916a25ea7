// Compare with original: the graph of a run once more, plain or at another quality, beside its own
// picture.
import { api } from "../../../scripts/api.js";
import { ask, presets } from "./ask.js";
import { compare } from "./compare.js";
import { orAlert } from "./dialog.js";
import { EVENT, words } from "./page.js";
import { other, pictureNode, withInputs } from "./prompt.js";
import { unpack } from "./report.js";
import { inputsOf } from "./settings.js";

/** Of one node. `changed()`: its button has to be drawn again. */
export class Original {
  constructor(changed) {
    this.changed = changed;
    this.known = null; // {prompt: id, graph, node, image, plain} of the run shown
    this.busy = false;
  }

  /** The button's text; null where there is nothing to compare. */
  button(run, told) {
    if (!run.ids.prompt) return null;
    if (this.known?.prompt !== run.ids.prompt) this._find(run.ids.prompt);
    if (!this.known?.image) return null;
    return this.busy ? told.originalRuns : told.original;
  }

  /** A prompt has ended: its picture may be there now. */
  ended() {
    if (this.known?.image) return;
    this.known = null;
    this.changed();
  }

  async _find(prompt) {
    const known = { prompt };
    this.known = known;
    const entry = await history(prompt);
    const node = entry && pictureNode(entry.prompt[2], entry.outputs);
    if (!node) return;
    Object.assign(known, { graph: entry.prompt[2], node, image: entry.outputs[node].images[0] });
    this.changed();
  }

  async make(run) {
    const { known } = this;
    await this._working(async () => {
      const plain = { ...known.graph[run.ids.node].inputs, threshold: 0 };
      known.plain ??= await remade(run, known, plain);
      const speca = await pictured(known.image, run);
      const told = words();
      const others = Object.entries(presets).map(([name, settings]) => ({
        label: told.qualities[name],
        make: () => remade(run, known, inputsOf(settings)),
      }));
      others.unshift({ label: told.plain, make: async () => known.plain });
      compare(told, known.plain, speca, others, (work) => this._working(work));
    });
  }

  async _working(work) {
    if (this.busy) return;
    this.busy = true;
    this.changed();
    await orAlert(work, words().pictureFailed);
    this.busy = false;
    this.changed();
  }
}

const history = async (prompt) => (await ask(`/history/${prompt}`))[prompt];

/** A picture, {image: the element, seconds: what its run took, or null}. */
async function pictured(image, run) {
  const made = new Image();
  made.src = api.apiURL(`/view?${new URLSearchParams(image)}`);
  await made.decode();
  return { image: made, seconds: run ? unpack(run.report).seconds.spent : null };
}

/** The picture of a run's graph with other inputs of its node. */
async function remade({ ids }, { graph, node }, inputs) {
  const shown = other(node);
  const runs = []; // that end meanwhile
  const hear = ({ detail }) => detail.ended && runs.push(detail);
  api.addEventListener(EVENT, hear);
  try {
    const { prompt_id: prompt } = await ask("/prompt", {
      prompt: withInputs(graph, ids.node, inputs, node),
      client_id: api.clientId,
      partial_execution_targets: [shown],
    });
    const entry = await ended(prompt);
    const image = entry.outputs[shown]?.images?.[0];
    if (!image)
      throw new Error(entry.status?.messages?.at(-1)?.[1].exception_message ?? words().stopped);
    const same = (run) => run.ids.prompt === prompt && run.ids.sampler === other(ids.sampler);
    return await pictured(image, runs.find(same));
  } finally {
    api.removeEventListener(EVENT, hear);
  }
}

/** What the history says of a prompt, once it has ended. */
async function ended(prompt) {
  for (;;) {
    const { exec_info: left } = await ask("/prompt");
    const entry = await history(prompt);
    if (entry) return entry;
    if (!left.queue_remaining) throw new Error(words().deleted);
    await new Promise((over) => setTimeout(over, 250));
  }
}
