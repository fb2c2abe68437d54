import 'reflect-metadata';
import { AbstractVerifier } from '../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../plugins/verifier-abstract/config.js';
import { TWINS } from '../../plugins/verifier-abstract/twins/index.js';
import { requestOfTwin } from '../../plugins/verifier-abstract/twins/twin.js';
import type { GeneratedCase } from '../../src/conformance/program-generator/index.js';
import { CONTAINMENT_CONFIG } from './containment-campaign.js';
import { findOutsideOf } from './containment.js';
import { generateOfEachKind } from './generated-programs.js';
import { requestOf } from './judges.js';
import { findMiss } from './soundness.js';

/**
 * `node mutation-probe.js FIRST PROGRAMS`: the fast look at a verifier that may have been weakened. Each twin is judged as it
 * says; runs of generated programs lie within the states explored, do not fault or contradict the facts; and pruning
 * and widening change no verdict. Exit code 1 and one line on stdout tell what is wrong first.
 */
const FULL_LIMIT = 6_000;

const guest = new AbstractVerifier({ ...DEFAULT_CONFIG, maxProcessedInsns: 100_000 });

async function findWrongTwin(): Promise<string | undefined> {
  for (const twin of TWINS) {
    const rejected = await guest.verify(requestOfTwin(twin, 'rejected'));
    if (rejected.accepted || rejected.code !== twin.code) return `twin ${twin.name}: rejected form`;
    const accepted = await guest.verify(requestOfTwin(twin, 'accepted'));
    if (!accepted.accepted) return `twin ${twin.name}: accepted form is ${accepted.code}`;
  }
  return undefined;
}

async function findWrongRun(generated: GeneratedCase): Promise<string | undefined> {
  const result = await findOutsideOf(generated, CONTAINMENT_CONFIG);
  if (result.kind === 'miss') return `insn ${result.miss.insn}: ${result.miss.reason}`;
  if (result.kind === 'rejected' && result.code === 'internal-error') return 'internal error';
  if (result.kind !== 'contained') return undefined;
  const verification = await new AbstractVerifier(CONTAINMENT_CONFIG).verify(
    requestOf(generated.programs[0]!, generated),
  );
  if (!verification.accepted) return `${verification.code} without an observer`;
  const miss = await findMiss(generated, verification);
  return miss === undefined ? undefined : `insn ${miss.insn ?? '–'}: ${miss.reason}`;
}

async function findShortcut(generated: GeneratedCase): Promise<string | undefined> {
  const config = { ...CONTAINMENT_CONFIG, maxProcessedInsns: FULL_LIMIT };
  const request = requestOf(generated.programs[0]!, generated);
  const usual = await new AbstractVerifier(config).verify(request);
  for (const tools of [{ prune: false }, { widen: false }]) {
    const full = await new AbstractVerifier(config, tools).verify(request);
    if (!full.accepted && full.code === 'too-many-insns') continue;
    if (full.accepted !== usual.accepted) return `${Object.keys(tools)[0]} changes the verdict`;
  }
  return undefined;
}

async function main(): Promise<number> {
  const [first, count] = process.argv.slice(2).map(Number);
  let wrong = await findWrongTwin();
  for (let seed = first!; seed < first! + count! && wrong === undefined; seed++) {
    const generated = generateOfEachKind(seed, { unsafePercent: 50, frames: 3 });
    wrong = (await findWrongRun(generated)) ?? (await findShortcut(generated));
    if (wrong !== undefined) wrong = `seed ${seed}: ${wrong}`;
  }
  if (wrong === undefined) return 0;
  console.log(wrong);
  return 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.log(String(error));
  process.exitCode = 1;
}
