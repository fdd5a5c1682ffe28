// Against a running server with the models `digits` (pictures [1, 8, 8]) and `vectors`, whose address
// VAESERVE_ADDRESS names. Run by tests/integration/test_node_client.py.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Client, ClientClosed, InvalidInput, type Tensor, VaeserveError } from "../src/index.js";

const address = process.env["VAESERVE_ADDRESS"];
assert(address, "set VAESERVE_ADDRESS to HOST:PORT of a running server");
const client = new Client(address);
const digits = client.model("digits");
after(() => client.close());

function pictures(rows: number): Tensor {
  const data = Float32Array.from({ length: rows * 64 }, (_, i) => ((i * 37) % 64) / 63);
  return { data, shape: [rows, 1, 8, 8] };
}

function row(tensor: Tensor, index: number): number[] {
  const size = tensor.data.length / tensor.shape[0]!;
  return [...tensor.data.subarray(index * size, (index + 1) * size)];
}

test("the catalogue says what is served", async () => {
  const names = (await client.models()).map((state) => state.name);
  assert(names.includes("digits"), names.join());
  const info = await digits.info();
  assert.deepEqual(info.inputShape.map(Number), [1, 8, 8]);
});

test("a posterior row does not depend on its neighbours", async () => {
  const x = pictures(3);
  const all = await digits.encode(x);
  const [latentDim] = (await digits.info()).latentShape.map(Number);
  assert.deepEqual(all.mu.shape, [3, latentDim]);
  const alone = await digits.encode({ data: x.data.subarray(128, 192), shape: [1, 1, 8, 8] });
  assert.deepEqual(row(alone.mu, 0), row(all.mu, 2));
  assert.deepEqual(row(alone.logVar, 0), row(all.logVar, 2));
});

test("levels are the values they stand for", async () => {
  const levels = Uint8Array.from({ length: 64 }, (_, i) => (i * 37) % 256);
  const { scale, offset } = (await digits.info()).preprocessing!;
  const values = Float32Array.from(levels, (level) => level * scale + offset);
  const shape = [1, 1, 8, 8];
  const [ofLevels, ofValues] = await Promise.all(
    [levels, values].map((data) => digits.encode({ data, shape })),
  );
  assert.deepEqual(ofLevels!.mu.data, ofValues!.mu.data);
});

test("draws are mu + exp(logVar / 2) * eps, repeatable by their seed", async () => {
  const first = await digits.encode(pictures(2), { draws: 3, seed: 7n });
  const again = await digits.encode(pictures(2), { draws: 3, seed: 7n });
  assert.equal(first.seed, 7n);
  assert.deepEqual(first.draws!.shape, [2, 3, first.mu.shape[1]]);
  assert.deepEqual(first.draws!.data, again.draws!.data);
  const other = await digits.encode(pictures(2), { draws: 3, seed: 8n });
  assert.notDeepEqual(first.draws!.data, other.draws!.data);
});

test("a sample's rows are a longer sample's first rows, and decode to the same pictures", async () => {
  const ten = await digits.sample(10, { seed: 2n ** 64n - 1n });
  const three = await digits.sample(3, { seed: 2n ** 64n - 1n });
  const tail = await digits.sample(7, { seed: 2n ** 64n - 1n, firstRow: 3n });
  assert.deepEqual([...three.pictures.data, ...tail.pictures.data], [...ten.pictures.data]);
  assert.deepEqual((await digits.decode(ten.latents)).data, ten.pictures.data);
});

test("temperature 0 is the prior's mean", async () => {
  const cold = await digits.sample(2, { temperature: 0 });
  assert(cold.latents.data.every((value) => value === 0));
  assert.deepEqual(row(cold.pictures, 0), row(cold.pictures, 1));
});

test("decoded levels are the decoded values", async () => {
  const { latents } = await digits.sample(2, { seed: 1n });
  const values = await digits.decode(latents);
  const levels = await digits.decodeLevels(latents);
  const { scale } = (await digits.info()).preprocessing!;
  values.data.forEach((value, i) => assert(Math.abs(value - levels.data[i]! * scale) <= scale * 0.51));
});

test("errors carry code, reason and field", async () => {
  await assert.rejects(client.model("none").sample(1), (error: VaeserveError) => {
    assert(error instanceof VaeserveError);
    assert.deepEqual([error.code, error.reason], ["NOT_FOUND", "MODEL_NOT_FOUND"]);
    return true;
  });
  await assert.rejects(digits.encode({ data: new Float32Array(9), shape: [1, 9] }), (error: VaeserveError) => {
    assert.deepEqual([error.code, error.reason], ["INVALID_ARGUMENT", "INVALID_TENSOR"]);
    assert.equal(error.fieldViolations[0]?.field, "input");
    return true;
  });
  await assert.rejects(digits.encode({ data: new Float32Array(9), shape: [1, 1, 8, 8] }), InvalidInput);
});

test("another model refuses the latents", async () => {
  const { latents } = await digits.sample(1);
  const other = { ...latents, latentSpaceId: "0".repeat(64) };
  await assert.rejects(digits.decode(other), { code: "FAILED_PRECONDITION", reason: "LATENT_SPACE_MISMATCH" });
});

test("a deadline is kept", async () => {
  await assert.rejects(digits.sample(1, { timeoutMs: 0 }), { code: "DEADLINE_EXCEEDED" });
});

test("a call may take any time", async () => {
  for (const timeoutMs of [Infinity, Number.MAX_VALUE]) {
    assert.deepEqual((await digits.sample(1, { timeoutMs })).pictures.shape, [1, 1, 8, 8]);
  }
});

test("a closed client says so", async () => {
  const closed = new Client(address);
  closed.close();
  await assert.rejects(closed.models(), ClientClosed);
  await assert.rejects(closed.model("digits").sample(1), ClientClosed);
});

test("an aborted call ends with the signal's reason", async () => {
  const controller = new AbortController();
  const call = digits.sample(1, { signal: controller.signal });
  controller.abort(new Error("changed my mind"));
  await assert.rejects(call, /changed my mind/);
  await assert.rejects(digits.sample(1, { signal: controller.signal }), /changed my mind/);
});

test("nobody there is UNAVAILABLE, within the deadline", async () => {
  const nobody = new Client("127.0.0.1:1", { timeoutMs: 2000 });
  try {
    await assert.rejects(nobody.models(), (error: VaeserveError) =>
      ["UNAVAILABLE", "DEADLINE_EXCEEDED"].includes(error.code),
    );
  } finally {
    nobody.close();
  }
});
