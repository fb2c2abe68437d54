import { describe, expect, it } from 'vitest';
import type { GuestKind } from '../../core/contract/plan.js';
import type { Plugin } from '../../core/contract/plugin.js';
import type { ResultDocument, RunResult } from '../../core/contract/result.js';
import { PluginRegistry, type PluginEntry } from '../../core/plugin/plugin-registry.js';
import { runTestbed } from '../../core/run/run-testbed.js';
import { resolveTestbed } from '../../core/testbed/resolve-testbed.js';

export interface FabricConformanceOptions {
  /** The fabric under test, and plugins for every other role. */
  readonly plugins: readonly (PluginEntry | Plugin)[];
  /** Its name. */
  readonly fabric: string;
  /** Folder of the sample programs (`testbeds/programs/` of this package), with a slash at its end. */
  readonly programs: string;
  /** What plays the guests, where the fabric has several kinds of them. */
  readonly guests?: GuestKind;
  /** Frames that each run sends; a multiple of 8. */
  readonly frames?: number;
}

const CASES = ['redirect', 'bridge'] as const;
const PLACEMENTS = ['guest', 'host'] as const;

/**
 * What every fabric must hold to, whatever it is made of: frames are accounted for, programs give the same
 * verdicts and map content wherever they run, and an offloaded program keeps its frames from the guest.
 */
export function fabricConformance(options: FabricConformanceOptions): void {
  const frames = options.frames ?? 64;
  const run = async (testbed: Omit<Scenario, 'frames'>): Promise<ResultDocument> => {
    const text = scenario(options, { ...testbed, frames });
    const resolved = await resolveTestbed(
      `${options.programs}conformance.testbed.yaml`,
      text,
      new PluginRegistry(options.plugins),
    );
    const result = await runTestbed(resolved, { version: '0.0.0' });
    // With the reason in the message of the test that fails.
    expect(result.failures ?? []).toEqual([]);
    return result;
  };
  const single = async (testbed: Omit<Scenario, 'frames'>): Promise<RunResult> =>
    (await run(testbed)).runs[0]!;

  describe(`fabric ${options.fabric} conforms`, () => {
    describe.each(CASES)('case %s', (hostCase) => {
      it('without a program, frames reach the guest’s stack', async () => {
        const result = await single({ case: hostCase });
        expect(result.ends).toEqual([{ place: 'g0.eth0', fate: 'guest-stack', frames }]);
        expect(result.links[0]!.framesToGuest).toBe(frames);
      });

      it.each(PLACEMENTS)('xdp1 in the %s counts and drops every frame', async (placement) => {
        const result = await single({ case: hostCase, program: 'xdp1', placement });
        expect(result.attachments).toEqual([{ node: 'g0.eth0', program: 'xdp1', placement, attached: true }]);
        expect(result.ends.map((end) => [end.fate, end.frames])).toEqual([['xdp-drop', frames]]);
        // UDP is protocol 17 and the key of an ARRAY map is 4 bytes, little-endian.
        expect(result.maps).toHaveLength(1);
        expect(result.maps[0]!.entries).toMatchObject([{ key: '11000000', value: littleEndian(frames) }]);
        expect(result.links[0]!.framesToGuest).toBe(placement === 'host' ? 0 : frames);
      });

      it.each(PLACEMENTS)('what xdp2 in the %s sends back is accounted for', async (placement) => {
        const result = await single({ case: hostCase, program: 'xdp2', placement });
        const ended = result.ends.reduce((sum, end) => sum + end.frames, 0);
        expect(ended).toBe(result.framesSent + result.framesCopied);
        const site = placement === 'host' ? 'offload' : 'guest-driver';
        expect(result.hooks.find((hook) => hook.site === site)!.verdicts.XDP_TX).toBe(frames);
      });
    });

    it('reports what the guest was told when its program is refused, and goes on without it', async () => {
      const result = await single({
        case: 'bridge',
        program: 'xdp1',
        placement: 'host',
        policies: '[{ use: quota, config: { per-guest: { maps: 0 } } }]',
      });
      expect(result.attachments).toMatchObject([{ attached: false }]);
      expect(result.attachments[0]!.reason).toBeTruthy();
      expect(result.control[0]!.acks.err).toBeGreaterThan(0);
      expect(result.rulings.some((ruling) => ruling.ruling === 'deny')).toBe(true);
      expect(result.ends).toEqual([{ place: 'g0.eth0', fate: 'guest-stack', frames }]);
    });

    it('can be brought up again after it was taken down', async () => {
      const scene = { case: 'bridge', program: 'xdp1', placement: 'host' } as const;
      expect(timeless(await single(scene))).toEqual(timeless(await single(scene)));
    });
  });
}

/** A result without when things came about, which no machine's clock tells twice. */
function timeless(result: unknown): unknown {
  return JSON.parse(
    JSON.stringify(result, (key, value: unknown) => (key === 'time' || key === 'loaded' ? undefined : value)),
  );
}

interface Scenario {
  readonly case: (typeof CASES)[number];
  readonly program?: string;
  readonly placement?: (typeof PLACEMENTS)[number];
  readonly policies?: string;
  readonly frames: number;
}

function scenario(
  options: FabricConformanceOptions,
  { case: hostCase, program, placement, policies, frames }: Scenario,
): string {
  const kind = options.guests === undefined ? '' : `kind: ${options.guests}, `;
  const attach = program === undefined ? '' : `, program: ${program}, placement: ${placement ?? 'guest'}`;
  return `version: 1
name: conformance
plugins: { fabric: { use: ${options.fabric} } }
policies: ${policies ?? '[]'}
programs:
  xdp1: { object: ${options.programs}xdp1.o }
  xdp2: { object: ${options.programs}xdp2.o }
  to-tap:
    object: ${options.programs}xdp_redirect.o
    maps:
      fdb: [{ key: { mac: g0.eth0 }, value: 0 }]
      tx_port: [{ key: 0, value: { ifindex: tap0 } }]
host:
  case: ${hostCase}
  nics: { eth0: { mac: 52:54:00:00:00:01, program: to-tap } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  g0: { ${kind}nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02 ${attach} } } }
workload: { use: udp-flood, config: { frames: ${frames} } }
`;
}

function littleEndian(value: number): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes.toString('hex');
}
