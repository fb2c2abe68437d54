import { EXIT, type ExitCode } from '../../core/diagnostic.js';
import { openObject, type ObjectOptions } from './prog-object.js';
import { helperName } from '../../bpf/helper-ids.js';
import { OP_CALL, BPF_CALL_HELPER } from '../../bpf/opcodes.js';
import { mapTypeName, type MapSpec } from '../../bpf/map-spec.js';
import { programTypeName, type ProgramSpec } from '../../bpf/program.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { printable } from '../../core/printable.js';
import type { CliContext } from '../cli-context.js';
import type { ObjectInfo } from '../../report/object-info-schema.js';

/** `xdpbed prog info`: what an object declares. Nothing is loaded. */
export async function showInfo(
  context: CliContext,
  path: string,
  options: ObjectOptions & { format: string },
): Promise<ExitCode> {
  const info = describeObject(await openObject(path, options));
  const { terminal } = context;
  if (options.format === 'json') terminal.out(`${JSON.stringify(info, null, 2)}\n`);
  else terminal.out(renderText(path, info));
  return EXIT.OK;
}

function describeObject(object: ObjectSpec): ObjectInfo {
  return {
    schema: 'xdpbed.object-info/1',
    license: object.license,
    btfTypes: object.btf?.typeCount ?? 0,
    programs: object.programs.map(describeProgram),
    maps: object.maps.map(describeMap),
    notes: [...object.notes],
  };
}

function describeProgram(program: ProgramSpec): ObjectInfo['programs'][number] {
  const helpers = new Set<number>();
  for (const { opcode, src, imm } of program.insns) {
    if (opcode === OP_CALL && src === BPF_CALL_HELPER) helpers.add(imm);
  }
  return {
    name: program.name,
    section: program.section,
    type: programTypeName(program.type),
    attachType: program.attachType,
    frags: program.frags,
    insns: program.insns.length,
    functions: program.debug?.functions.map((fn) => fn.name) ?? [],
    sourceLines: program.debug?.lines.length ?? 0,
    maps: [...new Set(program.references.map((reference) => reference.mapName))],
    helpers: [...helpers].sort((a, b) => a - b).map(helperName),
    ...(program.unsupported === undefined ? {} : { unsupported: program.unsupported }),
  };
}

function describeMap(map: MapSpec): ObjectInfo['maps'][number] {
  const { keyType, valueType, inner } = map;
  return {
    name: map.name,
    type: mapTypeName(map.type),
    keySize: map.keySize,
    valueSize: map.valueSize,
    maxEntries: map.maxEntries,
    flags: map.flags,
    ...(keyType === undefined ? {} : { key: keyType.btf.describe(keyType.id) }),
    ...(valueType === undefined ? {} : { value: valueType.btf.describe(valueType.id) }),
    initialEntries: map.initial.length,
    ...(inner === undefined ? {} : { inner: mapTypeName(inner.type) }),
  };
}

function renderText(path: string, info: ObjectInfo): string {
  const lines = [
    `${path}: license '${info.license}', ${info.btfTypes > 0 ? `${info.btfTypes} BTF types` : 'no BTF'}`,
  ];
  lines.push('', `programs (${info.programs.length})`);
  for (const program of info.programs) {
    const kind =
      program.type === 'xdp' ? `${program.attachType}${program.frags ? ', frags' : ''}` : program.type;
    lines.push(`  ${program.name}  section ${program.section}  ${kind}  ${program.insns} insns`);
    if (program.functions.length > 1) lines.push(`    functions: ${program.functions.join(', ')}`);
    if (program.maps.length > 0) lines.push(`    maps: ${program.maps.join(', ')}`);
    if (program.helpers.length > 0) lines.push(`    helpers: ${program.helpers.join(', ')}`);
    if (program.unsupported !== undefined) lines.push(`    cannot be loaded: ${program.unsupported}`);
  }
  lines.push('', `maps (${info.maps.length})`);
  for (const map of info.maps) {
    const key = `key ${map.keySize} B${map.key === undefined ? '' : ` (${map.key})`}`;
    const value = `value ${map.valueSize} B${map.value === undefined ? '' : ` (${map.value})`}`;
    lines.push(`  ${map.name}  ${map.type}  ${key}  ${value}  max_entries ${map.maxEntries}`);
    if (map.inner !== undefined) lines.push(`    holds ${map.inner}`);
    if (map.initialEntries > 0)
      lines.push(`    ${map.initialEntries} initial ${map.initialEntries === 1 ? 'element' : 'elements'}`);
  }
  for (const note of info.notes) lines.push('', `note: ${note}`);
  return `${lines.map(printable).join('\n')}\n`;
}
