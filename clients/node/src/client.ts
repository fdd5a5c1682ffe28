// The client: arrays in, arrays out, one call at a time.

import {
  ChannelCredentials,
  type CallOptions,
  type ClientUnaryCall,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import { ClientClosed, InvalidInput, fromServiceError } from "./errors.js";
import type { ModelInfo } from "./generated/vaeserve/v1/model.js";
import {
  GetModelRequest,
  ListModelsRequest,
  ModelServiceClient,
  type ModelState,
} from "./generated/vaeserve/v1/model_service.js";
import { DataType } from "./generated/vaeserve/v1/tensor.js";
import {
  DecodeRequest,
  EncodeOutput,
  EncodeRequest,
  GenerateOutput,
  SampleRequest,
  VaeServiceClient,
} from "./generated/vaeserve/v1/vae_service.js";
import { type Latents, type Pictures, type Tensor, floats, levels, toWire } from "./tensors.js";

const LONGEST_TIMER_MS = 2 ** 31;
const MAX_MESSAGE_BYTES = 64 << 20; // the server's own limit
const RETRIED = ["vaeserve.v1.VaeService", "vaeserve.v1.ModelService"];

/** How to reach a server. */
export interface ClientOptions {
  /** Milliseconds that a call may take unless it says otherwise; 30,000 by default, Infinity for any time. */
  readonly timeoutMs?: number;
  /** `ChannelCredentials.createSsl(...)` for TLS; without it the connection is not encrypted. */
  readonly credentials?: ChannelCredentials;
}

/** What every call takes. */
export interface CallSettings {
  /** Milliseconds to the deadline, which the server knows too. */
  readonly timeoutMs?: number;
  /** Cancels the call, on the server as well. */
  readonly signal?: AbortSignal;
}

export interface EncodeSettings extends CallSettings {
  /** Reparameterised draws a row; none by default. */
  readonly draws?: number;
  /** Seed of the draws, 0 .. 2^64 - 1; the server chooses one when absent. */
  readonly seed?: bigint;
}

export interface SampleSettings extends CallSettings {
  readonly seed?: bigint;
  /** Standard deviation of the draws, 0 .. 10; 1 by default. */
  readonly temperature?: number;
  /** Number of the first row: 10 continues a call for 10 rows. */
  readonly firstRow?: bigint;
}

/** q(z|x) = N(mu, diag(exp(logVar))), row for row. */
export interface Posterior {
  readonly mu: Latents;
  readonly logVar: Latents;
  /** [rows, draws, ...latent shape]; absent unless asked for. */
  readonly draws?: Latents;
  readonly seed?: bigint;
  readonly version: bigint;
}

/** Decoded draws from the prior. */
export interface Samples {
  readonly pictures: Tensor;
  readonly latents: Latents;
  readonly seed: bigint;
  readonly version: bigint;
}

type Unary<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/** A connection to a server, made with the first call. Close it, or the process will not end. */
export class Client {
  readonly vae: VaeServiceClient;
  readonly catalogue: ModelServiceClient;
  readonly #timeoutMs: number;
  #closed = false;

  /**
   * @param target "host:port", or "dns:///name:port", whose addresses are then used in turn.
   */
  constructor(target: string, options: ClientOptions = {}) {
    const credentials = options.credentials ?? ChannelCredentials.createInsecure();
    const channel = {
      "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
      "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
      "grpc.service_config": serviceConfig(),
    };
    this.#timeoutMs = options.timeoutMs ?? 30_000;
    this.vae = new VaeServiceClient(target, credentials, channel);
    // One connection for both: grpc-js shares it between clients of equal target and options.
    this.catalogue = new ModelServiceClient(target, credentials, channel);
  }

  /** Every model of the server's repository, served or not. */
  async models(settings: CallSettings = {}): Promise<ModelState[]> {
    const call = this.catalogue.listModels.bind(this.catalogue);
    return (await this.call(call, ListModelsRequest.fromPartial({}), settings)).models;
  }

  /** A handle for a model's calls; nothing is sent. `version` holds on to one. */
  model(name: string, version = 0n): Model {
    return new Model(this, name, version);
  }

  /** Ends the connection; calls under way are finished first. */
  close(): void {
    this.#closed = true;
    this.vae.close();
    this.catalogue.close();
  }

  /** Carries out a call: deadline, cancellation, errors. */
  call<Request, Response>(
    method: Unary<Request, Response>,
    request: Request,
    { timeoutMs = this.#timeoutMs, signal }: CallSettings,
  ): Promise<Response> {
    signal?.throwIfAborted();
    if (this.#closed) throw new ClientClosed();
    if (!(timeoutMs >= 0)) throw new InvalidInput(`timeoutMs must be at least 0, got ${timeoutMs}`);
    return new Promise((resolve, reject) => {
      // grpc-js counts no timer that long, and fails outside of the call for what is beyond dates.
      const deadline = timeoutMs < LONGEST_TIMER_MS ? Date.now() + timeoutMs : Infinity;
      const cancel = (): void => call.cancel();
      const call = method(request, new Metadata(), { deadline }, (error, response) => {
        signal?.removeEventListener("abort", cancel);
        if (error === null) resolve(response);
        else reject(signal?.aborted ? signal.reason : fromServiceError(error));
      });
      signal?.addEventListener("abort", cancel, { once: true });
    });
  }
}

/** A model of the server, by name; made by `Client.model`. */
export class Model {
  readonly #client: Client;
  readonly name: string;
  readonly version: bigint;

  constructor(client: Client, name: string, version: bigint) {
    this.#client = client;
    this.name = name;
    this.version = version;
  }

  /** Shapes, likelihood, limits, attributes. */
  async info(settings: CallSettings = {}): Promise<ModelInfo> {
    const { catalogue } = this.#client;
    const request = GetModelRequest.fromPartial({ name: this.name, version: this.version });
    const reply = await this.#client.call(catalogue.getModel.bind(catalogue), request, settings);
    return reply.model!;
  }

  /** The posterior of each row of `x`, [rows, ...input shape]. */
  async encode(x: Pictures, settings: EncodeSettings = {}): Promise<Posterior> {
    const { draws = 0, seed } = settings;
    const outputs = [EncodeOutput.ENCODE_OUTPUT_MU, EncodeOutput.ENCODE_OUTPUT_LOG_VAR];
    if (draws) outputs.push(EncodeOutput.ENCODE_OUTPUT_DRAWS);
    const request = EncodeRequest.fromPartial({ ...this.#named, input: toWire(x), outputs, draws, seed });
    const reply = await this.#client.call(this.#vae.encode.bind(this.#vae), request, settings);
    const latents = (tensor: Tensor): Latents => ({ ...tensor, latentSpaceId: reply.latentSpaceId });
    return {
      mu: latents(floats(reply.mu)),
      logVar: latents(floats(reply.logVar)),
      version: reply.version,
      ...(draws ? { draws: latents(floats(reply.draws)), seed: reply.seed! } : {}),
    };
  }

  /** Draws from the prior, decoded: `n` rows. Equal seeds give equal rows. */
  async sample(n: number, settings: SampleSettings = {}): Promise<Samples> {
    const { seed, temperature, firstRow = 0n } = settings;
    const outputs = [GenerateOutput.GENERATE_OUTPUT_X_HAT, GenerateOutput.GENERATE_OUTPUT_LATENTS];
    const request = SampleRequest.fromPartial({ ...this.#named, n, seed, temperature, firstRow, outputs });
    const reply = await this.#client.call(this.#vae.sample.bind(this.#vae), request, settings);
    return {
      pictures: floats(reply.xHat),
      latents: { ...floats(reply.latents), latentSpaceId: reply.latentSpaceId },
      seed: reply.seed,
      version: reply.version,
    };
  }

  /** The mean of p(x|z) of each latent row, as model values. Latents of another model are refused. */
  async decode(z: Tensor | Latents, settings: CallSettings = {}): Promise<Tensor> {
    return floats((await this.#decode(z, DataType.DATA_TYPE_FLOAT32, settings)).xHat);
  }

  /** As `decode`, as uint8 levels: a quarter of the bytes. For models of pictures. */
  async decodeLevels(z: Tensor | Latents, settings: CallSettings = {}): Promise<Tensor<Uint8Array>> {
    return levels((await this.#decode(z, DataType.DATA_TYPE_UINT8, settings)).xHat);
  }

  #decode(z: Tensor | Latents, xHatDtype: DataType, settings: CallSettings) {
    const latentSpaceId = "latentSpaceId" in z ? z.latentSpaceId : "";
    const request = DecodeRequest.fromPartial({ ...this.#named, latents: toWire(z), latentSpaceId, xHatDtype });
    return this.#client.call(this.#vae.decode.bind(this.#vae), request, settings);
  }

  get #vae(): VaeServiceClient {
    return this.#client.vae;
  }

  get #named(): { model: string; version: bigint } {
    return { model: this.name, version: this.version };
  }
}

/** All calls are free of side effects, so one that found no server, or one that stops, is repeated. */
function serviceConfig(): string {
  const retryPolicy = {
    maxAttempts: 4,
    initialBackoff: "0.1s",
    maxBackoff: "2s",
    backoffMultiplier: 2,
    retryableStatusCodes: ["UNAVAILABLE"],
  };
  return JSON.stringify({
    loadBalancingConfig: [{ round_robin: {} }],
    methodConfig: [{ name: RETRIED.map((service) => ({ service })), retryPolicy }],
  });
}
