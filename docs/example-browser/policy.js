// A policy that `recurrent-rl export RUN --to onnx` has written, stepped by ONNX Runtime Web. What it
// takes and gives stands in the file itself, so nothing here knows which memory it has.

const RUNTIME = new URL("node_modules/onnxruntime-web/dist/", import.meta.url).href;

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

/** The policy of one stream, with its memory. */
export class Policy {
  /** Loads a file from a URL. Throws an Error that says what is missing. */
  static async load(url) {
    const ort = await import(`${RUNTIME}ort.wasm.min.mjs`).catch((error) => {
      throw new Error(`ONNX Runtime Web is not here (${error.message}): run npm ci --ignore-scripts.`);
    });
    ort.env.wasm.wasmPaths = RUNTIME;
    ort.env.wasm.numThreads = 1; // more need a server that isolates the page, and so small a model none
    const response = await fetch(url);
    if (!response.ok) {
      throw new Error(`There is no ${url}: run recurrent-rl export RUN --to onnx --out ${url}.`);
    }
    const bytes = new Uint8Array(await response.arrayBuffer());
    const text = metadata(bytes).signature;
    if (!text) throw new Error(`${url} is no model that recurrent-rl has exported.`);
    const signature = JSON.parse(text);
    if (signature.batch !== null && signature.batch !== 1) {
      throw new Error(`${url} steps ${signature.batch} streams at once: export it with --batch 1.`);
    }
    return new Policy(ort, await ort.InferenceSession.create(bytes), signature);
  }

  constructor(ort, session, signature) {
    this.ort = ort;
    this.session = session;
    this.signature = signature;
    this.reset();
  }

  /** An episode starts with the next observation. */
  reset() {
    this.start = true;
    this.state = Object.fromEntries(
      this.signature.inputs
        .filter((field) => field.name in this.signature.state)
        .map((field) => [field.name, this.tensor(field)]),
    );
  }

  /**
   * One step. `given` holds numbers, true or false by the input's name, such as `{obs: [2]}`. What is
   * not given is zero, and a mask that is not given allows everything. Returns the outputs, as arrays
   * by their name.
   */
  async step(given) {
    const feeds = { ...this.state };
    for (const field of this.signature.inputs) {
      if (field.name === "episode_start") feeds[field.name] = this.tensor(field, [this.start]);
      else if (!(field.name in feeds)) feeds[field.name] = this.tensor(field, given[field.name]);
    }
    const found = await this.session.run(feeds);
    for (const [before, after] of Object.entries(this.signature.state)) {
      this.state[before] = found[after];
    }
    this.start = false;
    return Object.fromEntries(Object.entries(found).map(([name, tensor]) => [name, tensor.data]));
  }

  tensor(field, values) {
    const shape = field.shape.map((size) => size ?? 1); // null is any number of streams
    const array = new ARRAYS[field.dtype](shape.reduce((product, size) => product * size, 1));
    const convert = field.dtype === "int64" ? BigInt : Number;
    if (values) array.set(Array.from(values, convert));
    else if (field.name === "action_mask") array.fill(1);
    return new this.ort.Tensor(field.dtype, array, shape);
  }
}

/**
 * The texts that an ONNX file holds beside its graph, by name. ONNX Runtime Web does not give them.
 * The file is a protocol buffer: fields, each led by its number and type; field 14 is a text.
 */
export function metadata(bytes) {
  const texts = {};
  for (const [number, content] of fields(bytes)) {
    if (number !== 14) continue;
    const entry = Object.fromEntries(fields(content)); // 1: its name, 2: the text
    const [name, text] = [entry[1], entry[2]].map((part) => new TextDecoder().decode(part));
    texts[name] = text;
  }
  return texts;
}

/** The fields of a protocol buffer, as [number, bytes]; of those that are numbers the bytes are none. */
function* fields(bytes) {
  let at = 0;
  const integer = () => {
    let value = 0;
    for (let place = 1; ; place *= 128) {
      const byte = bytes[at++];
      value += (byte % 128) * place;
      if (byte < 128) return value;
      if (at >= bytes.length) throw new Error("This is no ONNX file.");
    }
  };
  while (at < bytes.length) {
    const key = integer();
    const [number, type] = [Math.floor(key / 8), key % 8];
    let size = 0;
    if (type === 0) integer();
    else if (type === 1) size = 8;
    else if (type === 2) size = integer();
    else if (type === 5) size = 4;
    else throw new Error("This is no ONNX file.");
    yield [number, bytes.subarray(at, at + size)];
    at += size;
  }
}
