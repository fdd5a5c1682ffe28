// Arrays on the wire: dtype, shape and little-endian row-major bytes.

import { endianness } from "node:os";
import { InvalidInput } from "./errors.js";
import { DataType, type Tensor as WireTensor } from "./generated/vaeserve/v1/tensor.js";

/** An array in row-major order; its length is the product of its shape. */
export interface Tensor<Values extends Float32Array | Uint8Array = Float32Array> {
  readonly data: Values;
  readonly shape: readonly number[];
}

/** Latents with the id of the space they belong to, by which another model refuses them. */
export interface Latents extends Tensor {
  readonly latentSpaceId: string;
}

/** Pictures: uint8 levels, a quarter of the bytes, or floats in model values. */
export type Pictures = Tensor<Float32Array | Uint8Array>;

const LITTLE = endianness() === "LE";

/**
 * The wire form of an array; the bytes are shared with it, not copied.
 *
 * @throws InvalidInput where the data are fewer or more than the shape says.
 */
export function toWire(tensor: Pictures): WireTensor {
  const { data, shape } = tensor;
  const size = shape.reduce((product, axis) => product * axis, 1);
  if (data.length !== size) {
    throw new InvalidInput(`shape [${shape.join(", ")}] has ${size} elements, the data ${data.length}`);
  }
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const isFloat = data instanceof Float32Array;
  return {
    dtype: isFloat ? DataType.DATA_TYPE_FLOAT32 : DataType.DATA_TYPE_UINT8,
    shape: shape.map(BigInt),
    data: isFloat && !LITTLE ? Buffer.from(bytes).swap32() : bytes,
  };
}

/** Float32 values that own their memory. */
export function floats(wire: WireTensor | undefined): Tensor {
  const { bytes, shape } = opened(wire);
  if (!LITTLE) Buffer.from(bytes.buffer).swap32();
  return { data: new Float32Array(bytes.buffer), shape };
}

/** Uint8 levels that own their memory. */
export function levels(wire: WireTensor | undefined): Tensor<Uint8Array> {
  const { bytes, shape } = opened(wire);
  return { data: bytes, shape };
}

function opened(wire: WireTensor | undefined): { bytes: Uint8Array<ArrayBuffer>; shape: number[] } {
  if (wire === undefined) throw new TypeError("the server left a tensor out that was asked for");
  // Copied: the message's bytes start at any offset of a larger buffer, floats need a multiple of 4.
  return { bytes: new Uint8Array(wire.data), shape: wire.shape.map(Number) };
}
