import { XdpbedError } from '../../src/core/diagnostic.js';
import type { ProgramFacts } from '../../src/core/contract/verifier.js';
import type { KernelLoadedProgram, KernelMapFds, Rewriting } from '../../src/linux/index.js';

/** Maps of a hook beside those of a program: file descriptors by handle, and the new handles by name. */
export interface AddedMaps<Name extends string> {
  readonly fds: KernelMapFds;
  readonly handle: Readonly<Record<Name, number>>;
}

/** Gives further maps handles that the program has no others by. */
export function added<Name extends string>(
  mapFds: KernelMapFds,
  more: Readonly<Record<Name, number>>,
): AddedMaps<Name> {
  const fds = new Map(mapFds);
  const handle = {} as Record<Name, number>;
  let next = Math.max(0, ...mapFds.keys());
  for (const [name, fd] of Object.entries(more) as [Name, number][]) {
    handle[name] = ++next;
    fds.set(next, fd);
  }
  return { fds, handle };
}

/** The program as it was made over. Throws `program-unsupported` with the reason where that cannot be done. */
export function requireRewritten<Extra extends object>(
  { name }: Pick<KernelLoadedProgram, 'name'>,
  rewriting: Rewriting<Extra>,
): Extract<Rewriting<Extra>, { ok: true }> {
  if (rewriting.ok) return rewriting;
  throw new XdpbedError(
    'executor-unsupported',
    `program ${name} cannot be made over for this hook: ${rewriting.reason}`,
    {
      at: rewriting.insn === undefined ? undefined : { insn: rewriting.insn },
    },
  );
}

/** What a verifier learnt of the program. Throws where none said. */
export function requireFacts({ name, facts }: KernelLoadedProgram): ProgramFacts {
  if (facts !== undefined) return facts;
  throw new XdpbedError(
    'executor-unsupported',
    `program ${name} cannot be made over for this hook: no verifier told what its insns do`,
    { hint: 'verifier abstract does; kernel alone does not' },
  );
}
