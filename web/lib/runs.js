// The runs that a node can show. Pure.

const MOST = 4; // samplers fed by one node
const MOST_WAITING = 16; // each holds a whole report

/** Of one SpeCa node: the newest of each sampler, oldest first. A run is the event's payload. */
export class Runs {
  constructor() {
    this.list = [];
    this.chosen = null; // sampler picked by the user
  }

  take(run) {
    const others = this.list.filter((other) => keyOf(other) !== keyOf(run));
    this.list = [...others, run].slice(-MOST);
  }

  /** The run to show: of the chosen sampler, else the newest. */
  get shown() {
    return this.list.find((run) => keyOf(run) === this.chosen) ?? this.list.at(-1);
  }

  /** Choose the next sampler, round and round. */
  next() {
    const at = this.list.indexOf(this.shown);
    this.chosen = keyOf(this.list[(at + 1) % this.list.length]);
  }

  /** What the workflow keeps. */
  get saved() {
    return this.list.filter((run) => run.ended);
  }
}

/** Runs whose workflow is not on screen, until it is: the newest few. */
export class Waiting {
  constructor() {
    this.runs = new Map(); // by workflow, node and sampler; oldest first
  }

  add(run) {
    const key = `${workflowKey(run.ids.workflow)}/${keyOf(run)}`;
    this.runs.delete(key);
    this.runs.set(key, run);
    if (this.runs.size > MOST_WAITING) this.runs.delete(this.runs.keys().next().value);
  }

  /** Hand over the runs of a workflow. */
  take(workflow) {
    const entries = [...this.runs].filter(([, run]) => workflowKey(run.ids.workflow) === workflow);
    for (const [key] of entries) this.runs.delete(key);
    return entries.map(([, run]) => run);
  }
}

/** Identifies a node's run by its node's path (a subgraph may be used twice) and its sampler. */
export function keyOf(run) {
  return `${run.ids.node}/${run.ids.sampler}`;
}

/** A workflow's id; empty for the all-zero id of a graph that has none. */
export function workflowKey(id) {
  return /[^0-]/.test(id ?? "") ? String(id) : "";
}
