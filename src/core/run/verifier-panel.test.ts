import { describe, expect, it } from 'vitest';
import type {
  Acceptance,
  ProgramFacts,
  ProgramProperties,
  Rejection,
  Verification,
  Verifier,
  VerifyRequest,
} from '../contract/verifier.js';
import type { PanelRule } from '../contract/run-spec.js';
import { VerifierPanel } from './verifier-panel.js';

const statistics = { processedInsns: 1, peakStates: 0, totalStates: 0 };
const request: VerifyRequest = {
  program: { name: 'main', type: 6, insns: [], gplCompatible: true } as unknown as VerifyRequest['program'],
  maps: new Map(),
};

const accepts = (verifier: string, more: Partial<Acceptance> = {}): Acceptance => ({
  accepted: true,
  verifier,
  statistics,
  ...more,
});
const rejects = (verifier: string): Rejection => ({
  accepted: false,
  verifier,
  code: `code-of-${verifier}`,
  reason: `${verifier} does not like it`,
  statistics,
});

/** A panel whose members say this, and who of them was asked what. */
function panel(rule: PanelRule, opinions: readonly Verification[]) {
  const asked: [string, VerifyRequest][] = [];
  const members = opinions.map((opinion): Verifier => {
    const name = opinion.verifier;
    return { name, verify: async (of) => (asked.push([name, of]), opinion) };
  });
  return { verifier: new VerifierPanel(members, rule), asked };
}

const YES = true;
const NO = false;

describe('a panel of verifiers', () => {
  // [rule, what `a`, `b` and `c` say, whether the panel accepts, whose word it is]
  it.each<[PanelRule, boolean[], boolean, string]>([
    ['all', [YES, YES, YES], YES, 'a'],
    ['all', [YES, NO, YES], NO, 'b'],
    ['all', [YES, NO, NO], NO, 'b'],
    ['all', [NO, YES, YES], NO, 'a'],
    ['all', [NO, NO, NO], NO, 'a'],
    ['in-turn', [YES, YES, YES], YES, 'a'],
    ['any', [YES, YES, YES], YES, 'a'],
    ['any', [NO, YES, YES], YES, 'b'],
    ['any', [NO, NO, YES], YES, 'c'],
    ['any', [NO, NO, NO], NO, 'a'],
    ['first', [YES, NO, NO], YES, 'a'],
    ['first', [NO, YES, YES], NO, 'a'],
    ['first', [NO, NO, NO], NO, 'a'],
  ])('by rule %s, of members who say %j, says %s, as %s does', async (rule, says, accepted, whose) => {
    const opinions = says.map((yes, index) => {
      const name = 'abc'[index]!;
      return yes ? accepts(name) : rejects(name);
    });
    const { verifier, asked } = panel(rule, opinions);
    const verification = await verifier.verify(request);
    expect(verification).toMatchObject({
      accepted,
      verifier: whose,
      ...(accepted ? {} : { code: `code-of-${whose}`, reason: `${whose} does not like it` }),
    });
    // Whatever the first says, all judge the same request, and all that they say is kept.
    expect(verification.opinions).toEqual(opinions);
    expect(asked.map(([name]) => name)).toEqual(['a', 'b', 'c']);
    expect(asked.every(([, of]) => of === request)).toBe(true);
  });

  it('by rule in-turn asks nobody behind one that rejects', async () => {
    const opinions = [accepts('a'), rejects('b'), accepts('c')];
    const { verifier, asked } = panel('in-turn', opinions);
    const verification = await verifier.verify(request);
    expect(verification).toMatchObject({ accepted: false, verifier: 'b', code: 'code-of-b' });
    expect(verification.opinions).toEqual(opinions.slice(0, 2));
    expect(asked.map(([name]) => name)).toEqual(['a', 'b']);
  });

  it('is called after its members', () => {
    expect(panel('all', [accepts('a'), rejects('b')]).verifier.name).toBe('a+b');
  });

  const factsOf = (insn: number): ProgramFacts => ({
    accesses: new Map(),
    calls: new Map(),
    unreachable: new Set([insn]),
  });
  const propertiesOf = (worstCaseInsns: number): ProgramProperties => ({
    helpers: [],
    mapTypes: [],
    writesPacket: false,
    verdicts: ['XDP_PASS'],
    worstCaseInsns,
    stackBytes: 0,
  });

  it('knows of an accepted program what the first acceptance that has it knows', async () => {
    const { verifier } = panel('all', [
      accepts('a'),
      accepts('b', { properties: propertiesOf(7) }),
      accepts('c', { facts: factsOf(3), properties: propertiesOf(9) }),
      accepts('d', { facts: factsOf(4) }),
    ]);
    expect(await verifier.verify(request)).toMatchObject({
      verifier: 'a',
      facts: factsOf(3),
      properties: propertiesOf(7),
    });
  });

  it('takes a program for contained when one that accepts it has shown so', async () => {
    const contained = async (rule: PanelRule, opinions: readonly Verification[]) =>
      ((await panel(rule, opinions).verifier.verify(request)) as Acceptance).contained;
    const [plain, shown] = [accepts('a'), accepts('b', { contained: true })];
    expect(await contained('all', [plain, shown])).toBe(true);
    expect(await contained('all', [plain, accepts('c', { contained: false })])).toBe(false);
    expect(await contained('any', [rejects('a'), shown])).toBe(true);
    expect(await contained('any', [plain, rejects('b')])).toBe(false);
  });

  it('knows nothing of a program when no acceptance does', async () => {
    const verification = await panel('any', [rejects('a'), accepts('b')]).verifier.verify(request);
    expect(verification).toMatchObject({ accepted: true, verifier: 'b' });
    expect(verification).toMatchObject({ facts: undefined, properties: undefined });
  });
});
