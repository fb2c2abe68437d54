import { EACCES, EBADF, EBUSY, EINVAL, EOPNOTSUPP } from '../../bpf/errno.js';
import { messageOf, XdpbedError } from '../diagnostic.js';
import type { Rejection } from '../contract/verifier.js';
import type { ChainRuling } from './policy-chain.js';
import type { BpfReply } from './protocol/control-protocol.js';

/**
 * Why a command ends in an error ack.
 *
 * - `malformed`: the bytes, or a field against another or against the object it names
 * - `denied`: by a policy · `rejected`: by the verifier
 * - `failed`: what was asked for could not be done (no memory, executor cannot run it)
 * - `answer`: no fault of anyone's, an errno that a map operation ordinarily ends in (ENOENT, EEXIST)
 * - `stale`: the device was reset or unplugged before the command was done
 * - `internal`: a plugin or the device itself threw
 */
export interface Refusal {
  readonly ok: false;
  readonly kind: 'malformed' | 'denied' | 'rejected' | 'failed' | 'answer' | 'stale' | 'internal';
  /** For whoever runs the host. */
  readonly reason: string;
  /** What the guest is told; default: `reason`, which then says nothing but what is the guest's own. */
  readonly toGuest?: string | undefined;
  /** Positive. */
  readonly errno: number;
  /** The verifier's, for `rejected`. */
  readonly code?: string | undefined;
  /** Elements of a batch that were done before the one that failed. */
  readonly count?: number | undefined;
}

export const STALE: Refusal = {
  ok: false,
  kind: 'stale',
  reason: 'the device was reset before the command was done',
  errno: EBUSY,
};

/** What a command came to. */
export type Outcome = { readonly ok: true; readonly reply: BpfReply } | Refusal;

export const DONE: Outcome = { ok: true, reply: { kind: 'done' } };

export function malformed(reason: string, errno = EINVAL): Refusal {
  return { ok: false, kind: 'malformed', reason, errno };
}

export function unsupported(reason: string): Refusal {
  return { ok: false, kind: 'malformed', reason, errno: EOPNOTSUPP };
}

export function failed(errno: number, reason: string): Refusal {
  return { ok: false, kind: 'failed', reason, errno };
}

/** A handle that names nothing of that kind: freed, forged, or another guest's. */
export function unknownHandle(handle: number, what: string): Refusal {
  return malformed(`handle 0x${handle.toString(16)} names no ${what} of this device`, EBADF);
}

export function denied(
  { policy, reason, toGuest, errno }: Extract<ChainRuling, { ruling: 'deny' }>,
  defaultErrno: number,
): Refusal {
  return {
    ok: false,
    kind: 'denied',
    reason: `by ${policy}: ${reason}`,
    toGuest: toGuest === undefined ? `by ${policy}` : `by ${policy}: ${toGuest}`,
    errno: errno ?? defaultErrno,
  };
}

/**
 * Something of the host's threw, whose words are not for the guest: they may name what is the host's own. That a program cannot
 * be run as it is (`executor-unsupported`) is said in words of the program's, which the guest is told.
 */
export function hostFailed(errno: number, what: string, error: unknown): Refusal {
  const refusal = failed(errno, `${what}: ${messageOf(error)}`);
  const isOfProgram = error instanceof XdpbedError && error.code === 'executor-unsupported';
  return isOfProgram ? refusal : { ...refusal, toGuest: what };
}

export function rejected(rejection: Rejection): Refusal {
  const at = rejection.insn === undefined ? '' : ` (insn ${rejection.insn})`;
  return {
    ok: false,
    kind: 'rejected',
    reason: `by ${rejection.verifier}: ${rejection.reason}${at}`,
    errno: EACCES,
    code: rejection.code,
  };
}

export function internal(error: unknown): Refusal {
  return {
    ok: false,
    kind: 'internal',
    reason: messageOf(error),
    toGuest: 'the device failed',
    errno: EINVAL,
  };
}
