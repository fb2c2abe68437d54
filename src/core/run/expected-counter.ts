import type { RunResult } from '../contract/result.js';
import type { CheckSection } from '../testbed/testbed-schema.js';

type Expectation = Extract<CheckSection, { kind: 'expect' }>;

/** What a counter is to be: `at least 3`. */
export function demandWords(check: Expectation): string {
  const { equals, between, 'at-least': least, 'at-most': most } = check;
  if (least !== undefined) return `at least ${least}`;
  if (most !== undefined) return `at most ${most}`;
  return between === undefined ? String(equals) : `between ${between[0]} and ${between[1]}`;
}

export function meetsDemand(check: Expectation, actual: number): boolean {
  const { equals, between, 'at-least': least, 'at-most': most } = check;
  if (least !== undefined) return actual >= least;
  if (most !== undefined) return actual <= most;
  return between === undefined ? actual === equals : actual >= between[0]! && actual <= between[1]!;
}

/** What is counted, in words: `rulings.deny of alice.eth0 by quota on map-create`. */
export function countedWords({ value, guest, nic, policy, operation }: Expectation): string {
  const of = [guest, nic].filter((part) => part !== undefined).join('.');
  return [
    value,
    of === '' ? '' : ` of ${of}`,
    policy === undefined ? '' : ` by ${policy}`,
    operation === undefined ? '' : ` on ${operation}`,
  ].join('');
}

/** A run as far as an expectation is about it: of one guest or nic, and of rulings those of one policy and operation. */
export function withinScope(run: RunResult, { guest, nic, policy, operation }: Expectation): RunResult {
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
          control: run.control.filter(isOwn),
          audit: run.audit.filter(isOwn),
          rulings: run.rulings.filter(isOwn),
          migrations: (run.migrations ?? []).filter(({ node }) => isOwnNode(node)),
        };
  return {
    ...scoped,
    rulings: scoped.rulings.filter(
      (ruling) =>
        (policy === undefined || ruling.policy === policy) &&
        (operation === undefined || ruling.operation === operation),
    ),
  };
}
