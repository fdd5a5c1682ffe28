// What can go wrong with a call. Switch on `reason` (docs/errors.md), never on the text.

import { type ServiceError, status } from "@grpc/grpc-js";
import { BadRequest, ErrorInfo, RetryInfo } from "./generated/google/rpc/error_details.js";
import { Status } from "./generated/google/rpc/status.js";

const DOMAIN = "vaeserve";
const TYPE = "type.googleapis.com/google.rpc.";

/** What is wrong with one field of the request. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/** A call that failed. */
export class VaeserveError extends Error {
  override readonly name: string = "VaeserveError";
  /** Name of the gRPC status, such as "NOT_FOUND". */
  readonly code: string;
  /** The server's stable word for the cause, such as "MODEL_NOT_FOUND"; empty when it gave none. */
  readonly reason: string;
  /** Which fields are at fault, for an invalid request. */
  readonly fieldViolations: readonly FieldViolation[];
  /** Milliseconds to wait before trying again, where the server said so. */
  readonly retryAfterMs: number | undefined;

  constructor(
    details: string,
    code: string,
    reason = "",
    fieldViolations: readonly FieldViolation[] = [],
    retryAfterMs?: number,
    cause?: unknown,
  ) {
    super(`${reason || code}: ${details}`, { cause });
    this.code = code;
    this.reason = reason;
    this.fieldViolations = fieldViolations;
    this.retryAfterMs = retryAfterMs;
  }
}

/** An argument that cannot be sent; found before anything was. */
export class InvalidInput extends VaeserveError {
  override readonly name = "InvalidInput";

  constructor(details: string) {
    super(details, "INVALID_ARGUMENT");
  }
}

/** The client was closed; make a new one. */
export class ClientClosed extends VaeserveError {
  override readonly name = "ClientClosed";

  constructor() {
    super("the client was closed; make a new one", "CANCELLED");
  }
}

/** The error of a call as gRPC gives it, with the details that the server packed into its trailer. */
export function fromServiceError(error: ServiceError): VaeserveError {
  const found = { reason: "", fields: [] as FieldViolation[], retryAfterMs: undefined as number | undefined };
  for (const detail of packed(error)) {
    if (detail.typeUrl === `${TYPE}ErrorInfo`) {
      const info = ErrorInfo.decode(detail.value);
      if (info.domain === DOMAIN) found.reason = info.reason;
    } else if (detail.typeUrl === `${TYPE}BadRequest`) {
      found.fields = BadRequest.decode(detail.value).fieldViolations.map(({ field, description }) => ({
        field,
        description,
      }));
    } else if (detail.typeUrl === `${TYPE}RetryInfo`) {
      const delay = RetryInfo.decode(detail.value).retryDelay;
      if (delay) found.retryAfterMs = Number(delay.seconds) * 1e3 + delay.nanos / 1e6;
    }
  }
  const code = status[error.code] ?? "UNKNOWN";
  return new VaeserveError(error.details, code, found.reason, found.fields, found.retryAfterMs, error);
}

function packed(error: ServiceError): Status["details"] {
  const [trailer] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!Buffer.isBuffer(trailer)) return [];
  try {
    return Status.decode(trailer).details;
  } catch {
    return []; // a proxy on the way damaged it; code and text remain
  }
}
