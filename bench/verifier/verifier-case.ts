import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { assemble } from '../../src/bpf/assembler.js';
import { requiredMaps } from '../../src/bpf/elf/object-closure.js';
import { readObject } from '../../src/bpf/elf/object-spec.js';
import { linkProgram } from '../../src/bpf/link.js';
import type { MapSpec } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP } from '../../src/bpf/program.js';
import type { VerifierMap, VerifyRequest } from '../../src/core/contract/verifier.js';

/** A program to verify, and where it is from. */
export interface VerifierCase {
  /** `xdp1`, or `xdp-dispatcher/xdp_pass` where the object holds several. */
  readonly name: string;
  readonly origin: 'ours' | 'xdp-tools';
  readonly request: VerifyRequest;
}

/** Where Debian's libxdp1 and xdp-tools packages put their objects. */
const XDP_TOOLS_FOLDER = `/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu/bpf`;

/** Every XDP program of testbeds/programs and, where they are installed, of Debian's objects. */
export function verifierCases(): VerifierCase[] {
  return [
    ...casesOfFolder(join(repositoryRoot(), 'testbeds/programs'), 'ours'),
    ...(existsSync(XDP_TOOLS_FOLDER) ? casesOfFolder(XDP_TOOLS_FOLDER, 'xdp-tools') : []),
  ];
}

function casesOfFolder(folder: string, origin: VerifierCase['origin']): VerifierCase[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith('.o'))
    .sort()
    .flatMap((file) => casesOfObject(join(folder, file), file.slice(0, -'.o'.length), origin));
}

export function casesOfObject(path: string, name: string, origin: VerifierCase['origin']): VerifierCase[] {
  const object = readObject(readFileSync(path), path);
  const programs = object.programs.filter(({ type }) => type === BPF_PROG_TYPE_XDP);
  return programs.map((program) => {
    const maps = requiredMaps(object, program);
    // Any numbers will do as handles: a verifier creates nothing.
    const handles = new Map(maps.map((map, index) => [map.name, index + 1]));
    return {
      name: programs.length === 1 ? name : `${name}/${program.name}`,
      origin,
      request: {
        program: linkProgram(program, handles),
        maps: new Map(maps.map((map, index) => [index + 1, verifierMap(map)])),
      },
    };
  });
}

/** A program that runs another one several times over, each a function of its own that is verified as a whole. */
export function severalTimes({ name, origin, request }: VerifierCase, times: number): VerifierCase {
  const { insns, debug: _, ...rest } = request.program;
  const calls = Array.from({ length: times }, (_, index) => {
    const callsLeft = 2 * (times - 1 - index);
    // Over the calls that are left and the exit, and over the functions in front of it.
    return `r1 = r6\ncall pc+${callsLeft + 1 + index * insns.length}`;
  });
  const main = assemble(`r6 = r1\n${calls.join('\n')}\nexit`);
  const all = [...main, ...Array.from({ length: times }, () => insns).flat()];
  return {
    name: `${name} ×${times}`,
    origin,
    request: { ...request, program: { ...rest, insns: all } },
  };
}

/** What the verifier is told of a map: the content of a frozen one is part of the program. */
function verifierMap(map: MapSpec): VerifierMap {
  const first = map.initial[0];
  const isConstant = map.frozen === true && first !== undefined && 'value' in first;
  return { ...map, frozenValue: isConstant ? first.value : undefined };
}

/** The folder with package.json: this file runs from bench/ as well as from dist/bench/. */
function repositoryRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'testbeds'))) folder = dirname(folder);
  return folder;
}
