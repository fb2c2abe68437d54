import { messageOf } from '../diagnostic.js';
import type { Policy, PolicyRequest } from '../contract/policy.js';
import type { RulingRecord } from '../contract/result.js';

export type ChainRuling =
  | { readonly ruling: 'allow' }
  /** Of the first policy that denied. */
  | { readonly ruling: 'deny'; readonly policy: string; readonly reason: string };

/**
 * Asks every policy, in order, also after one has denied: whoever reads the rulings sees all that stands in the
 * way and not only the first. A policy that throws, or answers with something that is no ruling, denies.
 */
export function ruleByChain(
  policies: readonly Policy[],
  request: PolicyRequest,
  record: (ruling: RulingRecord) => void,
): ChainRuling {
  let result: ChainRuling = { ruling: 'allow' };
  for (const policy of policies) {
    const { ruling, reason } = ruleBy(policy, request);
    record({
      guest: request.guest,
      operation: request.operation,
      policy: policy.name,
      ruling,
      reason,
      count: 1,
    });
    if (ruling === 'deny' && result.ruling === 'allow') result = { ruling, policy: policy.name, reason };
  }
  return result;
}

function ruleBy(policy: Policy, request: PolicyRequest): { ruling: 'allow' | 'deny'; reason: string } {
  try {
    const answer: unknown = policy.rule(request);
    const { ruling, reason } = (answer ?? {}) as { ruling?: unknown; reason?: unknown };
    const text = typeof reason === 'string' ? reason : 'no reason given';
    if (ruling === 'allow' || ruling === 'deny') return { ruling, reason: text };
    return { ruling: 'deny', reason: 'the policy gave no ruling' };
  } catch (error) {
    return { ruling: 'deny', reason: `the policy failed: ${messageOf(error)}` };
  }
}
