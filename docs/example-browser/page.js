// The T-maze, played by a policy whose memory is drawn as it goes.

import { Policy } from "./policy.js";

const [FORWARD, BACK, LEFT] = [0, 1, 2];
const [CORRIDOR, JUNCTION] = [2, 3];
const ACTIONS = ["forward", "back", "left", "right"];
const SIGNS = ["left", "right"];
const FLOATS = [Float32Array, Float64Array]; // what is drawn: a clock or an action says nothing
const LONGEST = 60; // steps of a corridor
const PAUSE = 350; // milliseconds between steps
const ROWS = 128; // of a picture of the memory, at most

/** One episode of recurrent_rl/TMaze-v0, after envs/tmaze.py. `sign` is 0 for left, 1 for right. */
class TMaze {
  constructor(length, sign) {
    Object.assign(this, { length, sign, position: 0, steps: 0, turned: null });
    this.longest = 2 * length + 2;
  }

  get observation() {
    if (this.steps === 0) return this.sign;
    return this.position === this.length ? JUNCTION : CORRIDOR;
  }

  get done() {
    return this.turned !== null || this.steps >= this.longest;
  }

  /** Takes an action and returns its reward. */
  step(action) {
    this.steps += 1;
    const atJunction = this.position === this.length;
    if (atJunction && action >= LEFT) {
      this.turned = action - LEFT;
      return this.turned === this.sign ? 1 : -1;
    }
    if (!atJunction && action === FORWARD) {
      this.position += 1;
      return 0;
    }
    if (action === BACK && this.position > 0) this.position -= 1;
    return -1 / this.length;
  }
}

/** Numbers in 0 .. 1 from a seed (Numerical Recipes' linear congruential generator). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** An episode that is being played, and all that was seen of it. */
class Episode {
  constructor(policy, length, sign) {
    this.policy = policy;
    this.maze = new TMaze(length, sign);
    Object.assign(this, { actions: [], rewards: [], chances: null, memory: [] });
    policy.reset();
  }

  get total() {
    return this.rewards.reduce((sum, reward) => sum + reward, 0);
  }

  async step() {
    const obs = [this.maze.observation];
    const outputs = await this.policy.step({ obs, previous_reward: this.rewards.slice(-1) });
    const action = Number(outputs.action[0]);
    this.rewards.push(this.maze.step(action));
    this.actions.push(action);
    this.chances = softmax(Array.from(outputs.logits));
    const state = Object.values(this.policy.signature.state).map((name) => [name, outputs[name]]);
    const memory = state.filter(([, values]) => FLOATS.includes(values.constructor));
    this.memory.push(memory.map(([name, values]) => [name.replace(/_out$/, ""), values.slice()]));
  }
}

function softmax(logits) {
  const most = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp(logit - most));
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / sum);
}

const find = (id) => document.getElementById(id);

/** Shows an episode as it stands; `other` is one with the other sign, played to its end. */
function draw(episode, other) {
  drawMaze(episode.maze);
  find("sign").textContent = signOf(episode.maze);
  find("seen").textContent = seenIn(episode.maze);
  find("status").textContent = inWords(episode);
  find("chances").replaceChildren(...ACTIONS.map((name, i) => chance(name, episode.chances?.[i])));
  drawMemory(episode, other);
}

const signOf = ({ sign }) => `${SIGNS[sign]} ${sign ? "▼" : "▲"}`;

function seenIn(maze) {
  if (maze.done) return "nothing more";
  if (maze.steps === 0) return `the sign, ${signOf(maze)}`;
  return maze.observation === JUNCTION ? "the junction" : "a corridor";
}

function inWords({ maze, actions, rewards, total }) {
  if (!actions.length) return "An episode starts.";
  const last = `Step ${maze.steps}: ${ACTIONS[actions.at(-1)]}, reward ${number(rewards.at(-1))}, return ${number(total)}.`;
  if (maze.turned === maze.sign) return `${last} Correct: the sign said ${SIGNS[maze.sign]}.`;
  if (maze.turned !== null) return `${last} Wrong: the sign said ${SIGNS[maze.sign]}.`;
  return maze.done ? `${last} Out of time.` : last;
}

const number = (value) => String(Number(value.toFixed(2))).replace("-", "−");

/** The corridor from left to right, so that a turn to the left goes up. A cell is 10 wide. */
function drawMaze(maze) {
  const end = 10 * maze.length;
  const arm = (side) => {
    const mark = maze.turned === side ? (side === maze.sign ? " correct" : " wrong") : "";
    return `<rect class="floor${mark}" x="${end}" y="${side ? 20 : 0}" width="10" height="10" />`;
  };
  const cells = Array.from(
    { length: maze.length + 1 },
    (_, i) => `<rect class="floor" x="${10 * i}" y="10" width="10" height="10" />`,
  );
  const row = maze.turned === null ? 15 : maze.turned ? 25 : 5;
  const agent = `<circle class="agent" cx="${10 * maze.position + 5}" cy="${row}" r="3" />`;
  find("maze").setAttribute("viewBox", `0 0 ${end + 10} 30`);
  find("maze").innerHTML = cells.join("") + arm(0) + arm(1) + agent;
  find("maze").setAttribute(
    "aria-label",
    `A corridor of ${maze.length} steps; the agent has gone ${maze.position}`,
  );
}

/** An action with its probability; before the first step there is none. */
function chance(name, value) {
  const label = document.createElement("label");
  const meter = document.createElement("meter");
  meter.value = value ?? 0;
  label.append(value === undefined ? name : `${name} ${Math.round(100 * value)} %`, meter);
  return label;
}

/** Each tensor of the memory, and by what it differs from the other sign's at the same step. */
function drawMemory({ maze, memory }, other) {
  const columns = Math.max(maze.length + 1, memory.length); // those of the corridor above
  const [held, remembered] = [[], []];
  (memory[0] ?? []).forEach(([name], index) => {
    const values = memory.map((step) => step[index][1]);
    const theirs = other.memory.map((step) => step[index][1]);
    const both = values.slice(0, theirs.length);
    const differences = both.map((step, t) => step.map((value, i) => value - theirs[t][i]));
    held.push(picture(name, values, columns));
    remembered.push(picture(`${name}, less where the sign is ${SIGNS[other.maze.sign]}`, differences, columns));
  });
  find("remembered").replaceChildren(...remembered);
  find("memory").replaceChildren(...held);
}

/** Values as a picture with a caption: a column for each step, a row for each number. */
function picture(name, values, columns) {
  const every = Math.ceil(values[0].length / ROWS);
  const most = values.flatMap((step) => Array.from(step, Math.abs)).reduce((a, b) => Math.max(a, b), 1e-9);
  const part = every > 1 ? `, one of ${every} drawn` : "";
  const caption = document.createElement("figcaption");
  caption.textContent = `${name}: ${values[0].length} numbers${part}, from −${most.toFixed(2)} to ${most.toFixed(2)}`;
  const figure = document.createElement("figure");
  figure.append(caption, heat(values, columns, every, most));
  return figure;
}

/** Orange above zero, blue below, the page's own colour at zero. */
function heat(values, columns, every, most) {
  const rows = Math.ceil(values[0].length / every);
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: columns, height: rows });
  const image = new ImageData(columns, rows);
  values.forEach((step, column) => {
    for (let row = 0; row < rows; row += 1) {
      const share = step[row * every] / most;
      const colour = share > 0 ? [222, 110, 20] : [40, 120, 220];
      image.data.set([...colour, 255 * Math.abs(share)], 4 * (row * columns + column));
    }
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** Buttons, and the score of the episodes that were played to their end. */
class Game {
  constructor(policy, length, random) {
    Object.assign(this, { policy, random, finished: [], timer: null, busy: false });
    find("length").value = length;
    find("step").onclick = () => this.step();
    find("play").onclick = () => this.play(this.timer === null);
    find("new").onclick = () => this.begin();
    find("length").onchange = () => this.begin();
  }

  /** Starts an episode, once one with the other sign was played unseen, to be compared with. */
  async begin() {
    if (this.busy) return;
    this.busy = true; // until it is not, a click does nothing
    const length = Math.min(LONGEST, Math.max(1, Math.floor(find("length").value) || 1));
    find("length").value = length;
    const sign = this.random() < 0.5 ? 0 : 1;
    this.other = new Episode(this.policy, length, 1 - sign);
    while (!this.other.maze.done) await this.other.step();
    this.episode = new Episode(this.policy, length, sign);
    this.busy = false;
    draw(this.episode, this.other);
  }

  async step() {
    if (this.busy) return;
    if (this.episode.maze.done) return this.begin();
    this.busy = true;
    await this.episode.step();
    this.busy = false;
    if (this.episode.maze.done) this.finish();
    draw(this.episode, this.other);
  }

  finish() {
    const { maze, actions, rewards } = this.episode;
    this.finished.push({ sign: maze.sign, actions, rewards, correct: maze.turned === maze.sign });
    const correct = this.finished.filter((episode) => episode.correct).length;
    find("score").textContent = `Correct in ${correct} of ${this.finished.length}.`;
  }

  play(on) {
    clearInterval(this.timer);
    this.timer = on ? setInterval(() => this.step(), PAUSE) : null;
    find("play").textContent = on ? "Pause" : "Play";
  }

  /** Plays whole episodes at once and writes what happened, for `?episodes=20&seed=1`. */
  async report(count) {
    while (this.finished.length < count) await this.step();
    const mean = this.finished.flatMap(({ rewards }) => rewards).reduce((a, b) => a + b, 0) / count;
    const { length } = this.episode.maze;
    const found = { length, mean_return: mean, episodes: this.finished };
    find("report").textContent = JSON.stringify(found);
    find("report").parentElement.hidden = false;
  }
}

async function main() {
  const query = new URLSearchParams(location.search);
  const length = Math.min(LONGEST, Math.max(1, Math.floor(query.get("length")) || 10));
  const random = generator(query.has("seed") ? Number(query.get("seed")) : Date.now());
  const policy = await Policy.load(query.get("policy") ?? "policy.onnx");
  const logits = policy.signature.outputs.find((field) => field.name === "logits");
  const obs = policy.signature.inputs.find((field) => field.name === "obs");
  if (obs?.dtype !== "int64" || logits?.shape.at(-1) !== ACTIONS.length) {
    throw new Error("This policy is not of recurrent_rl/TMaze-v0: its observation or actions differ.");
  }
  const game = new Game(policy, length, random);
  await game.begin();
  if (query.has("episodes")) await game.report(Number(query.get("episodes")));
  find("controls").disabled = false;
}

addEventListener("unhandledrejection", ({ reason }) => {
  find("status").textContent = reason.message;
  find("status").className = "wrong";
});
main();
