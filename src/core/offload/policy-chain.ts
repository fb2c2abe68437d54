import { messageOf } from '../diagnostic.js';
import {
  MAX_BREACHES,
  type ArrivedCommand,
  type ChainedPolicy,
  type Grants,
  type ObservedCost,
  type Policy,
  type PolicyRequest,
} from '../contract/policy.js';
import type { BreachRecord, RulingRecord } from '../contract/result.js';
import { recordedText } from './recorded-text.js';

/** Puts a policy into a chain; it keeps whatever state it has. */
export function chained(policy: Policy, place: Omit<ChainedPolicy, keyof Policy>): ChainedPolicy {
  const { name, countsInsns } = policy;
  return {
    name,
    countsInsns,
    rule: (request) => policy.rule(request),
    grants: (guest) => policy.grants?.(guest) ?? {},
    ...(policy.admit === undefined ? {} : { admit: (command) => policy.admit!(command) }),
    ...(policy.observe === undefined ? {} : { observe: (cost) => policy.observe!(cost) }),
    ...place,
  };
}

/** What all policies grant together; one that only says how it would rule takes nothing away, nor does one that fails. */
export function grantsOf(policies: readonly ChainedPolicy[], guest: string): Grants {
  let all: Grants = {};
  for (const policy of policies) {
    if (policy.dryRun === true) continue;
    try {
      const more = policy.grants?.(guest) ?? {};
      all = {
        maps: least(all.maps, more.maps),
        programs: least(all.programs, more.programs),
        mapMemory: least(all.mapMemory, more.mapMemory),
        insns: least(all.insns, more.insns),
        helpers: both(all.helpers, more.helpers),
        mapTypes: both(all.mapTypes, more.mapTypes),
      };
    } catch {
      // It rules on every request; this is only what the guest is told before.
    }
  }
  return all;
}

function least(a: number | undefined, b: number | undefined): number | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return Math.min(a, b);
}

function both(
  a: ReadonlySet<number> | undefined,
  b: ReadonlySet<number> | undefined,
): ReadonlySet<number> | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return new Set([...a].filter((number) => b.has(number)));
}

export type ChainRuling =
  | { readonly ruling: 'allow' }
  /** Of the first policy that denied. */
  | {
      readonly ruling: 'deny';
      readonly policy: string;
      readonly reason: string;
      /** What the guest is to be told, if the policy says. */
      readonly toGuest: string | undefined;
      readonly errno: number | undefined;
    };

/** Rules on a command that has come: `operation` in the records is `command`. */
export const ADMISSION = 'command';

/** What is recorded at most beside the reason: a policy may repeat what a guest sent. */
const MAX_PATH = 512;
const MAX_WORD = 128;
const MAX_WORDS = 32;

/**
 * Asks the policies in order, also after one has denied, unless that one ends the chain: whoever reads the rulings
 * sees all that stands in the way and not only the first. A policy that throws, or answers with something that is no
 * ruling, denies.
 */
export function ruleByChain(
  policies: readonly ChainedPolicy[],
  request: PolicyRequest,
  record: (ruling: RulingRecord) => void,
): ChainRuling {
  return askInOrder(policies, request, request.operation, (policy) => policy.rule(request), record);
}

/** One that rules on commands of which nothing is known yet. */
export type AdmittingPolicy = ChainedPolicy & Required<Pick<Policy, 'admit'>>;

export function isAdmitting(policy: ChainedPolicy): policy is AdmittingPolicy {
  return policy.admit !== undefined;
}

/** As `ruleByChain`, on a command that has come and that nobody has looked at. */
export function admitByChain(
  policies: readonly AdmittingPolicy[],
  command: ArrivedCommand,
  record: (ruling: RulingRecord) => void,
): ChainRuling {
  return askInOrder(policies, command, ADMISSION, (policy) => policy.admit(command), record);
}

/** Tells every policy that wants to know. */
export function tellChain(policies: readonly ChainedPolicy[], cost: ObservedCost): void {
  for (const policy of policies) {
    try {
      policy.observe?.(cost);
    } catch {
      // It was told; that it cannot bear it is not the guest's concern.
    }
  }
}

function askInOrder<P extends ChainedPolicy>(
  policies: readonly P[],
  request: ArrivedCommand | PolicyRequest,
  operation: string,
  ask: (policy: P) => unknown,
  record: (ruling: RulingRecord) => void,
): ChainRuling {
  let result: ChainRuling = { ruling: 'allow' };
  for (const policy of policies) {
    const answer = ruleBy(policy, ask);
    const { ruling, reason, toGuest, errno } = answer;
    record(rulingRecord(policy, request, operation, answer));
    if (ruling === 'allow' || policy.dryRun === true) continue;
    if (result.ruling === 'allow') result = { ruling, policy: policy.name, reason, toGuest, errno };
    if (policy.endsChain === true) break;
  }
  return result;
}

/** In one literal: spreading one object into another takes longer than ruling on a look-up does. */
function rulingRecord(
  { name: policy, dryRun }: ChainedPolicy,
  { id: request, time, guest, nic }: ArrivedCommand | PolicyRequest,
  operation: string,
  { ruling, reason, breaches }: PolicyAnswer,
): RulingRecord {
  const record: RulingRecord = { request, time, guest, nic, operation, policy, ruling, reason, count: 1 };
  if (dryRun === true) record.dryRun = true;
  if (breaches.length > 0) record.breaches = breaches;
  return record;
}

interface PolicyAnswer {
  readonly ruling: 'allow' | 'deny';
  readonly reason: string;
  readonly toGuest: string | undefined;
  readonly errno: number | undefined;
  readonly breaches: BreachRecord[];
}

function ruleBy<P extends ChainedPolicy>(policy: P, ask: (policy: P) => unknown): PolicyAnswer {
  try {
    const { ruling, reason, toGuest, errno, breaches } = (ask(policy) ?? {}) as Record<string, unknown>;
    const text = typeof reason === 'string' ? recordedText(reason) : 'no reason given';
    if (ruling === 'allow')
      return { ruling, reason: text, toGuest: undefined, errno: undefined, breaches: [] };
    if (ruling !== 'deny') return denial('the policy gave no ruling');
    return {
      ruling,
      reason: text,
      toGuest: typeof toGuest === 'string' ? recordedText(toGuest) : undefined,
      errno: isErrno(errno) ? errno : undefined,
      breaches: breachRecords(breaches, policy.configPath),
    };
  } catch (error) {
    return denial(recordedText(`the policy failed: ${messageOf(error)}`));
  }
}

function denial(reason: string): PolicyAnswer {
  return { ruling: 'deny', reason, toGuest: undefined, errno: undefined, breaches: [] };
}

/** Linux's MAX_ERRNO is 4095. */
function isErrno(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 4095;
}

/** Of what a policy gave, that which is as the contract says: the deny stands whatever became of its details. */
function breachRecords(breaches: unknown, configPath: string | undefined): BreachRecord[] {
  if (!Array.isArray(breaches)) return [];
  return (breaches as unknown[]).slice(0, MAX_BREACHES).flatMap((breach) => {
    const { rule, limit: most, asked: wanted, held, at } = (breach ?? {}) as Record<string, unknown>;
    if (typeof rule !== 'string') return [];
    const record: BreachRecord = { rule: recordedText(rule, MAX_WORD) };
    const limit = extent(most);
    if (limit !== undefined) record.limit = limit;
    const asked = extent(wanted);
    if (asked !== undefined) record.asked = asked;
    if (isFinite(held)) record.held = held;
    if (configPath !== undefined && isWords(at)) {
      record.path = `${configPath}.${at.join('.')}`.slice(0, MAX_PATH);
    }
    return [record];
  });
}

function extent(value: unknown): BreachRecord['limit'] {
  if (isFinite(value)) return value;
  return isWords(value) ? value.slice(0, MAX_WORDS).map((word) => recordedText(word, MAX_WORD)) : undefined;
}

/** JSON has no word for other numbers. */
function isFinite(value: unknown): value is number {
  return Number.isFinite(value);
}

function isWords(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((word) => typeof word === 'string');
}
