// The runs that a node can show. Pure.

const MOST = 4; // samplers fed by one node
const MOST_WAITING = 16; // each holds a whole report

/** Of one SpeCa node: the newest of each sampler, oldest first. A run is the event's payload. */
export class Runs {
  list = [];
  chosen = null; // sampler picked by the user

  take(run) {
    this.list = newest(this.list, run, keyOf, MOST);
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
}

/** Runs whose workflow is not on screen, until it is: the newest few. */
export class Waiting {
  list = [];

  add(run) {
    const key = (each) => `${workflowKey(each.ids.workflow)}/${keyOf(each)}`;
    this.list = newest(this.list, run, key, MOST_WAITING);
  }

  take(workflow) {
    const taken = this.list.filter((run) => workflowKey(run.ids.workflow) === workflow);
    this.list = this.list.filter((run) => !taken.includes(run));
    return taken;
  }
}

/** The newest run of each key, so many at most; the new one goes behind the others. */
function newest(runs, run, key, most) {
  return [...runs.filter((other) => key(other) !== key(run)), run].slice(-most);
}

/** Identifies a node's run by its node's path (a subgraph may be used twice) and its sampler. */
const keyOf = ({ ids }) => `${ids.node}/${ids.sampler}`;

/** A workflow's id; empty for the all-zero id of a graph that has none. */
export function workflowKey(id) {
  return /[^0-]/.test(id ?? "") ? String(id) : "";
}
