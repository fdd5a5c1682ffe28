export {
  type CallSettings,
  Client,
  type ClientOptions,
  type EncodeSettings,
  Model,
  type Posterior,
  type SampleSettings,
  type Samples,
} from "./client.js";
export { ClientClosed, type FieldViolation, InvalidInput, VaeserveError } from "./errors.js";
export type { ModelInfo } from "./generated/vaeserve/v1/model.js";
export type { ModelState } from "./generated/vaeserve/v1/model_service.js";
export type { Latents, Pictures, Tensor } from "./tensors.js";
