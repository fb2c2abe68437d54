import {
  DIAGNOSTIC_CODES,
  XdpbedError,
  messageOf,
  type DiagnosticCode,
  type DiagnosticLocation,
} from './diagnostic.js';
import { TestbedError } from './testbed/problem-list.js';
import type { Problem } from './testbed/yaml-source.js';

/** An error on its way to another process or thread. */
export interface FailureMessage {
  /** Of an XdpbedError. */
  readonly code: string | undefined;
  readonly message: string;
  readonly hint: string | undefined;
  readonly at: DiagnosticLocation | undefined;
  /** Of a TestbedError. */
  readonly problems?: readonly Problem[] | undefined;
  readonly truncated?: boolean | undefined;
}

export function failureMessage(error: unknown): FailureMessage {
  const known = error instanceof XdpbedError ? error : undefined;
  const { problems, truncated } = error instanceof TestbedError ? error : {};
  return {
    code: known?.code,
    message: messageOf(error),
    hint: known?.hint,
    at: known?.at,
    problems,
    truncated,
  };
}

/** The same as an error again; with a code that is none of ours it is an ordinary one. */
export function errorOfMessage({ code, message, hint, at, problems, truncated }: FailureMessage): Error {
  if (problems !== undefined) return new TestbedError(problems, truncated);
  const known = code !== undefined && Object.hasOwn(DIAGNOSTIC_CODES, code);
  return known ? new XdpbedError(code as DiagnosticCode, message, { hint, at }) : new Error(message);
}
