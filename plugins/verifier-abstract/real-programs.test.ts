import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readObject } from '../../src/bpf/elf/object-spec.js';
import { linkProgram } from '../../src/bpf/link.js';
import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import { BPF_PROG_TYPE_XDP } from '../../src/bpf/program.js';
import type { VerifierMap } from '../../src/core/contract/verifier.js';
import { AbstractVerifier } from './abstract-verifier.js';
import { DEFAULT_CONFIG } from './config.js';

/** Our own, and those of xdp-tools and libxdp where Debian's packages are installed. */
const FOLDERS = [
  fileURLToPath(new URL('../../testbeds/programs', import.meta.url)),
  '/usr/lib/x86_64-linux-gnu/bpf',
].filter((folder) => existsSync(folder));

const files = FOLDERS.flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.o'))
    .map((name) => join(folder, name)),
);

const verifier = new AbstractVerifier(DEFAULT_CONFIG);

const COSTLY: ReadonlySet<number> = new Set([
  BPF_FUNC.trace_printk,
  BPF_FUNC.perf_event_output,
  BPF_FUNC.xdp_adjust_tail,
  BPF_FUNC.csum_diff,
]);

describe('programs that the kernel accepts', () => {
  it.each(files)('%s', async (file) => {
    const object = readObject(readFileSync(file));
    const handles = new Map(object.maps.map((map, index) => [map.name, index + 1]));
    const maps = new Map<number, VerifierMap>(
      object.maps.map((map, index) => {
        const [first] = map.initial;
        const content = first !== undefined && 'value' in first ? first.value : undefined;
        return [index + 1, { ...map, frozenValue: map.frozen === true ? content : undefined }];
      }),
    );
    for (const spec of object.programs) {
      if (spec.type !== BPF_PROG_TYPE_XDP || spec.unsupported !== undefined) continue;
      const program = linkProgram(spec, handles);
      const result = await verifier.verify({ program, maps });
      if (!result.accepted) {
        expect.fail(`${spec.name}: ${result.code} at insn ${result.insn}: ${result.reason}`);
      }
      expect(result.properties!.worstCaseInsns).toBeGreaterThan(0);
      // Helpers that copy a packet or make text of arguments count for the most that they may do.
      const { worstCaseInsns, helpers } = result.properties!;
      const isCostly = helpers.some((helper) => COSTLY.has(helper));
      if (!isCostly) expect(worstCaseInsns).toBeLessThanOrEqual(result.statistics.processedInsns);
    }
  });
});
