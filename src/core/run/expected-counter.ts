import { formatJson, type BtfJson } from '../../bpf/btf/format-value.js';
import type { RunResult } from '../contract/result.js';
import type { ResolvedCheck } from '../testbed/resolve-checks.js';

export type Expectation = Extract<ResolvedCheck, { kind: 'expect' }>;

/** What a number is to be: `at least 3`. */
export function demandWords(check: Expectation): string {
  const { equals, between, 'at-least': least, 'at-most': most } = check;
  if (least !== undefined) return `at least ${least}`;
  if (most !== undefined) return `at most ${most}`;
  return between === undefined ? String(equals) : `between ${between[0]} and ${between[1]}`;
}

/** Compares exactly, however large the numbers are. */
export function meetsDemand(check: Expectation, actual: bigint): boolean {
  const { equals, between, 'at-least': least, 'at-most': most } = check;
  if (least !== undefined) return actual >= BigInt(least);
  if (most !== undefined) return actual <= BigInt(most);
  return between === undefined
    ? actual === BigInt(equals!)
    : actual >= BigInt(between[0]!) && actual <= BigInt(between[1]!);
}

/** What is counted, in words: `rulings.deny of alice.eth0 by quota on map-create`, `counters[1].packets of CPU 0`. */
export function countedWords(check: Expectation): string {
  const { value, guest, nic, policy, operation, code } = check;
  const of = [guest, nic].filter((part) => part !== undefined).join('.');
  return [
    value ?? mapWords(check),
    of === '' ? '' : ` of ${of}`,
    policy === undefined ? '' : ` by ${policy}`,
    operation === undefined ? '' : ` on ${operation}`,
    code === undefined ? '' : ` with ${code}`,
  ].join('');
}

function mapWords({ map, key, member = '', cpu }: Expectation): string {
  const element = key === undefined ? '' : `[${formatJson(key as BtfJson)}]`;
  const step = member === '' || member.startsWith('[') ? member : `.${member}`;
  return `map ${map}${element}${step}${cpu === undefined ? '' : ` on CPU ${cpu}`}`;
}

/** A run as far as an expectation is about it: of one guest or nic, and of rulings those of one policy and operation, of rejections those with one code. */
export function withinScope(run: RunResult, { guest, nic, policy, operation, code }: Expectation): RunResult {
  const isOwn = (each: { readonly guest: string; readonly nic: string }): boolean =>
    (guest === undefined || each.guest === guest) && (nic === undefined || each.nic === nic);
  const isOwnNode = (node: string): boolean => {
    const dot = node.lastIndexOf('.');
    return isOwn({ guest: node.slice(0, dot), nic: node.slice(dot + 1) });
  };
  const scoped =
    guest === undefined && nic === undefined
      ? run
      : {
          ...run,
          attachments: run.attachments.filter(({ node }) => isOwnNode(node)),
          hooks: run.hooks.filter(({ node }) => isOwnNode(node)),
          ends: run.ends.filter(({ place }) => isOwnNode(place)),
          maps: run.maps.filter(isOwn),
          control: run.control.filter(isOwn),
          audit: run.audit.filter(isOwn),
          rulings: run.rulings.filter(isOwn),
          migrations: (run.migrations ?? []).filter(({ node }) => isOwnNode(node)),
        };
  return {
    ...scoped,
    audit: scoped.audit.filter((record) => code === undefined || record.code === code),
    rulings: scoped.rulings.filter(
      (ruling) =>
        (policy === undefined || ruling.policy === policy) &&
        (operation === undefined || ruling.operation === operation),
    ),
  };
}
