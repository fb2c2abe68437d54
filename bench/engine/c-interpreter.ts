import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeInsns } from '../../src/bpf/insn.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { repositoryRoot, type EngineCase } from './engine-case.js';

/** How interpreter.c knows kinds of maps. */
const KINDS: ReadonlyMap<number, number> = new Map<number, number>([
  [BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, 0],
  [BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY, 1],
  [BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, 2],
]);
/** Rounds of one process. */
const ROUNDS = 15;
const UNSUPPORTED = 2;

/** interpreter.c, built for a benchmark. */
export class CInterpreter {
  private constructor(readonly folder: string) {}

  /** Undefined where there is no gcc. */
  static build(): CInterpreter | undefined {
    const folder = mkdtempSync(join(tmpdir(), 'xdpbed-bench-'));
    const source = join(repositoryRoot(), 'bench/engine/interpreter.c');
    const { status, error, stderr } = spawnSync('gcc', ['-O2', '-o', join(folder, 'interpreter'), source]);
    if (status === 0) return new CInterpreter(folder);
    rmSync(folder, { recursive: true });
    if (error === undefined) throw new Error(`interpreter.c does not compile: ${String(stderr)}`);
    return undefined;
  }

  /** Undefined for a case that it cannot run. */
  prepare(test: EngineCase, slots: number): PreparedCase | undefined {
    const { program, maps, content, flows } = test;
    if (content.length > 0 || test.programArrays.length > 0) return undefined;
    const words: number[] = [];
    for (const [handle, { type, keySize, valueSize, maxEntries }] of maps) {
      const kind = KINDS.get(type);
      if (kind === undefined) return undefined;
      words.push(handle, kind, keySize, valueSize, maxEntries);
    }
    const frames = Array.from({ length: flows }, (_, flow) => test.frame(flow));
    const head = [program.insns.length, maps.size, flows, frames[0]!.length, slots];
    const parts = [u32s(head), encodeInsns(program.insns), u32s(words), ...frames];
    writeFileSync(join(this.folder, 'case'), Buffer.concat(parts));
    const prepared = new PreparedCase(join(this.folder, 'interpreter'), join(this.folder, 'case'));
    return prepared.first() === undefined ? undefined : prepared;
  }

  close(): void {
    rmSync(this.folder, { recursive: true });
  }
}

/** A case that interpreter.c runs; until the next is prepared. */
export class PreparedCase {
  constructor(
    readonly interpreter: string,
    readonly file: string,
  ) {}

  /** What comes of the first frame, as in interpreter.c; undefined for a case that it cannot run. */
  first(): { readonly verdict: number; readonly hash: number } | undefined {
    const output = this.#run('check');
    if (output === undefined) return undefined;
    const [verdict, hash] = output.split(' ').map(Number);
    return { verdict: verdict!, hash: hash! };
  }

  /** Nanoseconds for one packet. */
  measure(): number {
    return Number(this.#run(String(ROUNDS)));
  }

  #run(what: string): string | undefined {
    const { status, stdout } = spawnSync(this.interpreter, [this.file, what], { encoding: 'utf8' });
    if (status === UNSUPPORTED) return undefined;
    if (status !== 0) throw new Error(`interpreter.c ended with status ${status}`);
    return stdout;
  }
}

function u32s(values: readonly number[]): Buffer {
  return Buffer.from(Uint32Array.from(values).buffer);
}
