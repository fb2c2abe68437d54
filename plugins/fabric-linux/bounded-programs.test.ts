import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_MAP_TYPE, type MapAttributes } from '../../src/bpf/map-spec.js';
import type { Program } from '../../src/bpf/program.js';
import { AbstractVerifier } from '../verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../verifier-abstract/config.js';
import { requireBounded } from './bounded-programs.js';
import { mostChainElements } from './hash-chains.js';

const K = 1024;

function hash(maxEntries: number, type: keyof typeof BPF_MAP_TYPE = 'BPF_MAP_TYPE_HASH'): MapAttributes {
  return { type: BPF_MAP_TYPE[type], keySize: 4, valueSize: 4, maxEntries, flags: 0 };
}

/** Looks a key up in a map by handle. */
const LOOK_UP = (handle = 1): string => `
  *(u32 *)(r10 -4) = 7
  r1 = map[fd:${handle}]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem`;

const looped = (rounds: number, body: string): string => `
  r1 = ${rounds}
  r2 = subprog[round]
  r3 = 0
  r4 = 0
  call bpf_loop
  r0 = 2
  exit
round:
  ${body}
  r0 = 0
  exit`;

async function verified(text: string, maps: ReadonlyMap<number, MapAttributes>) {
  const program: Program = {
    name: 'guest',
    type: 6,
    attachType: 'BPF_XDP',
    gplCompatible: true,
    insns: assemble(text),
  };
  const verification = await new AbstractVerifier(DEFAULT_CONFIG).verify({
    program,
    maps: new Map([...maps].map(([handle, map]) => [handle, { ...map, name: `m${handle}` }])),
  });
  if (!verification.accepted) throw new Error(verification.reason);
  const { facts, properties } = verification;
  return {
    name: 'guest',
    program,
    facts,
    properties,
    maps: new Map([...maps].map(([handle, attributes]) => [handle, { attributes }])),
  };
}

async function check(text: string, ...maps: MapAttributes[]): Promise<void> {
  requireBounded(await verified(text, new Map(maps.map((map, index) => [index + 1, map]))));
}

async function elements(text: string, ...maps: MapAttributes[]): Promise<number> {
  const user = await verified(text, new Map(maps.map((map, index) => [index + 1, map])));
  return mostChainElements({ ...user, worstCaseInsns: user.properties!.worstCaseInsns });
}

describe('programs for the host’s kernel', () => {
  it.each([
    ['a look-up among 1M entries', `${LOOK_UP()}\nr0 = 2\nexit`, [hash(K * K)]],
    ['three of them', `${LOOK_UP().repeat(3)}\nr0 = 2\nexit`, [hash(K * K)]],
    ['a dozen among 64k entries', `${LOOK_UP().repeat(12)}\nr0 = 2\nexit`, [hash(64 * K)]],
    [
      'a loop without any, and one behind it',
      `${looped(1000, 'r0 = 0').replace('r0 = 2', `${LOOK_UP()}\nr0 = 2`)}`,
      [hash(64 * K)],
    ],
    ['some in a loop, among few entries', looped(100, LOOK_UP()), [hash(K)]],
    ['many in an array', looped(20_000, LOOK_UP()), [hash(64 * K, 'BPF_MAP_TYPE_ARRAY')]],
  ])('may be such as make %s', async (_, text, maps) => {
    await expect(check(text, ...maps)).resolves.toBeUndefined();
  });

  it.each([
    [
      '20,000 look-ups among 4096 entries, which may all be in one chain',
      looped(20_000, LOOK_UP()),
      [hash(4 * K)],
    ],
    ['five look-ups among 1M entries', `${LOOK_UP().repeat(5)}\nr0 = 2\nexit`, [hash(K * K)]],
    [
      'look-ups in a function that a loop calls',
      `${looped(4000, 'call f')}\nf: ${LOOK_UP()}\nr0 = 0\nexit`,
      [hash(4 * K)],
    ],
    [
      'look-ups between jumps backwards',
      `r6 = 2000\nagain: ${LOOK_UP()}\nr6 += -1\nif r6 != 0 goto again\nr0 = 2\nexit`,
      [hash(4 * K)],
    ],
    [
      'an update of a full LRU, which looks for each element that it evicts',
      `*(u32 *)(r10 -4) = 7\n*(u32 *)(r10 -8) = 7\nr1 = map[fd:1]\nr2 = r10\nr2 += -4\nr3 = r10\nr3 += -8\nr4 = 0\ncall bpf_map_update_elem\nr0 = 2\nexit`,
      [hash(64 * K, 'BPF_MAP_TYPE_LRU_HASH')],
    ],
  ])('must not make %s', async (_, text, maps) => {
    await expect(check(text, ...maps)).rejects.toThrow(
      /elements of hash chains for one frame, .* the limit is 1048576$/,
    );
  });

  it('must have been judged by a verifier that counts', async () => {
    const judged = await verified('r0 = 2\nexit', new Map());
    expect(() => requireBounded({ ...judged, properties: undefined })).toThrow('no verifier told');
  });
});

describe('elements of hash chains', () => {
  it.each([
    ['none without hash maps', `${LOOK_UP()}\nr0 = 2\nexit`, [hash(16, 'BPF_MAP_TYPE_ARRAY')], 0],
    ['those of the map that is meant', `${LOOK_UP(2)}\nr0 = 2\nexit`, [hash(1000), hash(10)], 10],
    [
      'as often as a function is called',
      `call f\ncall f\ncall f\nexit\nf: ${LOOK_UP()}\nr0 = 2\nexit`,
      [hash(10)],
      30,
    ],
    [
      'as often as functions are called that call it',
      `call f\ncall f\nexit\nf: call g\ncall g\nexit\ng: ${LOOK_UP()}\nr0 = 2\nexit`,
      [hash(10)],
      40,
    ],
    ['none of what no path reaches', `r0 = 2\nif r0 == 2 goto out\n${LOOK_UP()}\nout: exit`, [hash(10)], 0],
  ])('are %s', async (_, text, maps, expected) => {
    expect(await elements(text, ...maps)).toBe(expected);
  });

  it('in a loop are at least those of its rounds, and at most as many as its insns can ask for', async () => {
    // A round: 8 insns; ahead of and behind them: 7.
    const found = await elements(looped(100, LOOK_UP()), hash(10));
    expect(found).toBeGreaterThanOrEqual(100 * 10);
    expect(found).toBeLessThanOrEqual(((2 * (100 * 8 + 8)) / 3) * 10);
  });
});
