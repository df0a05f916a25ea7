// Which runs a node shows, and which of them. Pure.
import { same } from "./report.js";

const MOST = 4; // samplers behind one node

/** Runs of one SpeCa Accelerate node: the newest of each sampler, oldest first. A run is the payload of the `speca.run` event. */
export class Runs {
  constructor() {
    this.list = [];
    this.chosen = null; // sampler picked by the user
  }

  /** Take a run; of one sampler only the newest is kept. A prediction that was made for just these settings stays with it. */
  take(run, prediction = null) {
    const before = this.list.find((other) => keyOf(other) === keyOf(run));
    const predicted = before?.ids.run === run.ids.run ? before.predicted : prediction && same(prediction.settings, run.report.settings) ? prediction.outcome : undefined;
    this.list = [...this.list.filter((other) => other !== before), { ...run, ...(predicted && { predicted }) }].slice(-MOST);
  }

  /** The run to show: of the chosen sampler, else the newest. */
  get shown() {
    return this.list.find((run) => keyOf(run) === this.chosen) ?? this.list.at(-1) ?? null;
  }

  /** Choose the next sampler, round and round. */
  next() {
    const at = this.list.indexOf(this.shown);
    this.chosen = this.list.length ? keyOf(this.list[(at + 1) % this.list.length]) : null;
  }

  /** What is kept in the workflow: runs that are over. */
  get saved() {
    return this.list.filter((run) => run.ended);
  }
}

/** Runs of one node are told apart by the node's path (a subgraph may be used twice) and the sampler. */
export function keyOf(run) {
  return `${run.ids.node}/${run.ids.sampler}`;
}

/** A workflow's id; empty for the all-zero id of a graph that has none. */
export function workflowKey(id) {
  return /[^0-]/.test(id ?? "") ? String(id) : "";
}
