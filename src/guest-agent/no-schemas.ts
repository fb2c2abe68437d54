/**
 * Stands for `@sinclair/typebox` in the agent (guest-agent.config.ts): whatever is made of schemas, or looked up in one, is
 * this again.
 */
export const Type: unknown = new Proxy(() => Type, { get: () => Type, apply: () => Type });
