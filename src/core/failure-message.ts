import {
  DIAGNOSTIC_CODES,
  XdpbedError,
  messageOf,
  type DiagnosticCode,
  type DiagnosticLocation,
} from './diagnostic.js';

/** An error on its way to another process. */
export interface FailureMessage {
  /** Of an XdpbedError. */
  readonly code: string | undefined;
  readonly message: string;
  readonly hint: string | undefined;
  readonly at: DiagnosticLocation | undefined;
}

export function failureMessage(error: unknown): FailureMessage {
  const known = error instanceof XdpbedError ? error : undefined;
  return { code: known?.code, message: messageOf(error), hint: known?.hint, at: known?.at };
}

/** The same as an error again; with a code that is none of ours it is an ordinary one. */
export function errorOfMessage({ code, message, hint, at }: FailureMessage): Error {
  const known = code !== undefined && Object.hasOwn(DIAGNOSTIC_CODES, code);
  return known ? new XdpbedError(code as DiagnosticCode, message, { hint, at }) : new Error(message);
}
