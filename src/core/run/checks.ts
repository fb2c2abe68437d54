import {
  attackSucceeded,
  isGuestHook,
  sumRulings,
  type CheckResult,
  type Comparison,
  type RequestsResult,
  type RunResult,
  type VerdictCounts,
} from '../contract/result.js';
import type { MapSpec } from '../../bpf/map-spec.js';
import type { PerCpuMaps, ResolvedCheck } from '../testbed/resolve-checks.js';
import { overAllCpus } from './cpu-sums.js';
import { countedWords, demandWords, meetsDemand, withinScope } from './expected-counter.js';
import { sumOverMaps } from './expected-map.js';
import { nearChange, nearReference, outpaces } from './rate-checks.js';
import type { MissingRun } from './run-failures.js';

/**
 * The checks that hold for a testbed: its own, and that every program was attached unless the testbed says how
 * many it expects to be refused. A run without its program shows nothing, and must not look like success.
 */
export function effectiveChecks(checks: readonly ResolvedCheck[]): ResolvedCheck[] {
  const expectsRefusals = checks.some((check) => check.kind === 'expect' && check.value === REFUSED);
  return expectsRefusals ? [...checks] : [{ kind: 'expect', value: REFUSED, equals: 0 }, ...checks];
}

const REFUSED = 'attachments.refused';

/**
 * Evaluates a check of the testbed over the finished runs. One that needs a run without a result (`missing`) does not
 * pass.
 */
export function evaluateCheck(
  check: ResolvedCheck,
  runs: readonly RunResult[],
  missing: readonly MissingRun[] = [],
  reference?: Comparison['reference'],
): CheckResult {
  const needed = missing.filter((run) => isNeeded(check, run, [...runs, ...missing], reference));
  const result = evaluateOver(check, runs, needed.length > 0, reference);
  const problems = [...result.problems, ...needed.map(({ id, reason }) => `${id}: the run ${reason}`)];
  return { ...result, problems, passed: problems.length === 0 };
}

function isNeeded(
  check: ResolvedCheck,
  run: MissingRun,
  all: readonly Pick<RunResult, 'axes'>[],
  reference: Comparison['reference'],
): boolean {
  switch (check.kind) {
    case 'conservation':
      return true;
    case 'same-across':
      return all.filter((other) => groupKey(check.axis, other) === groupKey(check.axis, run)).length > 1;
    case 'requests-undisturbed':
      return all.filter((other) => groupKey(check.axis, other) === groupKey(check.axis, run)).length > 1;
    case 'outpaces':
      return [check.variant, check.baseline].includes(run.axes[check.axis] ?? '') && isWhere(check, run);
    case 'near-reference':
      return reference?.mpps?.[run.id] !== undefined;
    case 'near-change':
      return (
        reference?.exchanges?.[run.id] !== undefined &&
        all.filter((other) => groupKey(check.axis, other) === groupKey(check.axis, run)).length > 1
      );
    case 'offload-shields-guest':
      return run.offloads;
    case 'attacks':
    case 'expect':
      return isWhere(check, run);
  }
}

/** Whether a run is one that a check with `where` is about. */
function isWhere(
  { where = {} }: { readonly where?: Readonly<Record<string, string>> },
  { axes }: Pick<RunResult, 'axes'>,
): boolean {
  return Object.entries(where).every(([axis, variant]) => axes[axis] === variant);
}

const UNSEEN = ': not looked at, the runs are on another';

/** Whether a check of runs on one fabric has nothing to look at, because all are on another. */
function areElsewhere(runs: readonly RunResult[], fabric: string | undefined): boolean {
  return fabric !== undefined && runs.length > 0 && runs.every((run) => run.fabric !== fabric);
}

/** @param incomplete whether there are runs without a result that the check needs. */
function evaluateOver(
  check: ResolvedCheck,
  runs: readonly RunResult[],
  incomplete: boolean,
  reference: Comparison['reference'],
): CheckResult {
  const conclude = (
    description: string,
    looked: readonly RunResult[],
    problems: readonly string[],
    mayBeIdle = false,
  ): CheckResult => {
    // A check that looked at no run has shown nothing, and fails.
    const nothing = looked.length === 0 && !incomplete && !mayBeIdle;
    const all = nothing ? ['no run of this testbed is one that the check could look at'] : [...problems];
    return {
      check: check.kind,
      description,
      ...(check.why === undefined ? {} : { why: check.why }),
      runs: looked.map((run) => run.id),
      passed: all.length === 0,
      problems: all,
    };
  };
  switch (check.kind) {
    case 'conservation':
      return conclude('every frame is accounted for exactly once', runs, runs.flatMap(conservationProblems));
    case 'same-across':
      return conclude(
        `${check.compare.join(' and ')} are the same across ${check.axis}`,
        ...sameAcross(check, runs),
      );
    case 'requests-undisturbed': {
      const { node, axis, baseline, percentile, 'at-most-times': times } = check;
      return conclude(
        `${percentile} of ${node}’s requests is at most ${times} times that of ${axis}=${baseline}`,
        ...requestsUndisturbed(check, runs),
      );
    }
    case 'near-reference': {
      const { within, ordered, fabric } = check;
      const order = ordered ? ', in the same order' : '';
      const scope = fabric === undefined ? '' : ` on fabric ${fabric}`;
      const elsewhere = areElsewhere(runs, fabric);
      const unseen = elsewhere ? UNSEEN : '';
      const description = `rates${scope} are within ${within} % of ${reference?.name ?? 'the reference'}${order}${unseen}`;
      return conclude(description, ...nearReference(check, runs, reference), elsewhere);
    }
    case 'near-change': {
      const { axis, baseline, within, fabric } = check;
      const scope = fabric === undefined ? '' : ` on fabric ${fabric}`;
      const elsewhere = areElsewhere(runs, fabric);
      const description = `exchanges${scope} change from ${axis}=${baseline} as those of ${reference?.name ?? 'the reference'}, within ${within} points${elsewhere ? UNSEEN : ''}`;
      const looked = runs.filter((run) => fabric === undefined || run.fabric === fabric);
      return conclude(description, ...nearChange(check, groupsAcross(axis, looked), reference), elsewhere);
    }
    case 'outpaces': {
      const { axis, variant, baseline, 'at-least-times': times } = check;
      return conclude(
        `${axis}=${variant} has at least ${times} times the rate of ${axis}=${baseline}`,
        ...outpaces(check, groupsAcross(axis, runs)),
      );
    }
    case 'offload-shields-guest': {
      const offloaded = runs.filter((run) => run.hooks.some((hook) => hook.site === 'offload'));
      return conclude(
        'frames that an offloaded program did not pass never reach the guest’s virtqueue',
        offloaded,
        offloaded.flatMap(shieldProblems),
      );
    }
    case 'attacks': {
      const scope = whereWords(check.where);
      const attacked = runs.filter((run) => isWhere(check, run) && run.attacks !== undefined);
      return conclude(
        `attacks ${check.expect}${scope}`,
        attacked,
        attacked.flatMap((run) => attackProblems(run, check.expect)),
      );
    }
    case 'expect': {
      const chosen = runs.filter((run) => isWhere(check, run));
      const scope = whereWords(check.where);
      return conclude(
        `${countedWords(check)} is ${demandWords(check)}${scope}`,
        chosen,
        chosen.flatMap((run) => {
          const { policy } = check;
          // What nobody of that name ruled is no proof that it would have.
          if (policy !== undefined && !run.rulings.some((ruling) => ruling.policy === policy))
            return [`${run.id}: no policy '${policy}' ruled on anything in this run`];
          const scoped = withinScope(run, check);
          let actual: bigint;
          if (check.value === undefined) {
            const inMaps = sumOverMaps(scoped, check);
            if ('problems' in inMaps) return inMaps.problems.map((problem) => `${run.id}: ${problem}`);
            actual = inMaps.sum;
          } else {
            const counted = counter(scoped, check.value);
            if (counted === undefined) return [`${run.id}: '${check.value}' is not a counter of this run`];
            actual = BigInt(counted);
          }
          return meetsDemand(check, actual)
            ? []
            : [`${run.id}: ${countedWords(check)} is ${actual}, not ${demandWords(check)}`];
        }),
      );
    }
  }
}

/**
 * Evaluates all checks. One that finds no run to look at has shown nothing and fails, unless it is `--only` that
 * left it none (`narrowed`): who picks some of the runs does not ask for checks of the others.
 */
export function evaluateChecks(
  checks: readonly ResolvedCheck[],
  runs: readonly RunResult[],
  narrowed: boolean,
  missing: readonly MissingRun[] = [],
  reference?: Comparison['reference'],
): CheckResult[] {
  return checks.map((check) => {
    const result = evaluateCheck(check, runs, missing, reference);
    const needed = missing.some((run) => isNeeded(check, run, [...runs, ...missing], reference));
    if (!narrowed || needed || result.passed || result.runs.length > 0) return result;
    const description = `${result.description}: not looked at, --only left no run for it`;
    return { ...result, description, passed: true, problems: [] };
  });
}

function whereWords(where: Readonly<Record<string, string>> = {}): string {
  const pairs = Object.entries(where);
  return pairs.length === 0 ? '' : ` where ${pairs.map((pair) => pair.join('=')).join(', ')}`;
}

/** Attacks that did not end as they are to. One that broke only what it does not go for has not shown what it is for. */
function attackProblems({ id, attacks = [] }: RunResult, expect: 'fail' | 'succeed'): string[] {
  return attacks.flatMap((attack) => {
    const { node, attack: name, device, broken, aims } = attack;
    if (expect === 'fail') {
      return broken.map(
        ({ invariant, what }) => `${id}: ${name} of ${node} on ${device}: ${invariant}: ${what}`,
      );
    }
    return attackSucceeded(attack)
      ? []
      : [`${id}: ${name} of ${node} on ${device} broke nothing that it goes for: ${aims.join(', ')}`];
  });
}

function conservationProblems(run: RunResult): string[] {
  const ended = sum(run.ends.map((end) => end.frames));
  const made = run.framesSent + run.framesCopied;
  const problems: string[] = [];
  if (ended !== made) {
    problems.push(`${run.id}: ${run.framesSent} sent + ${run.framesCopied} copied, but ${ended} ended`);
  }
  for (const { node, framesSent, framesCopied, unexplained } of run.rates ?? []) {
    if (unexplained === 0) continue;
    problems.push(
      `${run.id}: of ${framesSent + framesCopied} frames sent to ${node} for its rate, nobody knows where ${unexplained} ended`,
    );
  }
  for (const hook of run.hooks) {
    const verdicts = sum(Object.values(hook.verdicts));
    if (verdicts !== hook.frames)
      problems.push(
        `${run.id}: ${hook.program} at ${hook.node} saw ${hook.frames} frames but returned ${verdicts} verdicts`,
      );
  }
  return problems;
}

/** The frames that the fabric put into the guests' queues are those that the programs in front of them passed. */
function shieldProblems(run: RunResult): string[] {
  return run.hooks
    .filter((hook) => hook.site === 'offload')
    .flatMap((hook) => {
      const link = run.links.find(({ guest, nic }) => `${guest}.${nic}` === hook.node);
      const reached = link?.framesToGuest ?? 0;
      return reached > hook.verdicts.XDP_PASS
        ? [
            `${run.id}: ${hook.program} passed ${hook.verdicts.XDP_PASS} frames, but ${reached} reached the virtqueue of ${hook.node}`,
          ]
        : [];
    });
}

/** The runs that were compared with their baseline, and which waited for longer. */
function requestsUndisturbed(
  check: Extract<ResolvedCheck, { kind: 'requests-undisturbed' }>,
  runs: readonly RunResult[],
): [RunResult[], string[]] {
  const { node, axis, baseline, percentile, 'at-most-times': times } = check;
  const requestsOf = (run: RunResult): RequestsResult | undefined =>
    run.requests?.find((requests) => requests.node === node);
  const problems: string[] = [];
  const compared: RunResult[] = [];
  for (const group of groupsAcross(axis, runs)) {
    const alone = group.find((run) => run.axes[axis] === baseline);
    if (alone === undefined) continue;
    const expected = requestsOf(alone);
    for (const run of group) {
      if (run === alone) continue;
      compared.push(run);
      const actual = requestsOf(run);
      const [before, after] = [expected?.latency?.[percentile], actual?.latency?.[percentile]];
      // A refusal is quick, and no answer.
      const refused = (requests: RequestsResult | undefined): number => requests?.refused ?? 0;
      if (before === undefined || after === undefined || refused(expected) === expected?.sent) {
        problems.push(`${run.id}: ${node} got no answer to compare with ${alone.id}`);
      } else if (refused(actual) > refused(expected)) {
        problems.push(
          `${run.id}: ${refused(actual)} requests of ${node} were refused, ${refused(expected)} in ${alone.id}`,
        );
      } else if (after > before * times) {
        problems.push(`${run.id}: ${node} waited ${after} µs (${percentile}), ${before} µs in ${alone.id}`);
      }
    }
  }
  return [compared, problems];
}

/** Runs that differ on this axis only, together. */
function groupsAcross(axis: string, runs: readonly RunResult[]): RunResult[][] {
  const groups = new Map<string, RunResult[]>();
  for (const run of runs) {
    const key = groupKey(axis, run);
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  return [...groups.values()];
}

/** The same for runs that differ on no other axis than this. */
function groupKey(axis: string, { axes }: Pick<RunResult, 'axes'>): string {
  const rest = Object.entries(axes).filter(([other]) => other !== axis);
  return rest.map((pair) => pair.join('=')).join(', ');
}

/** The runs that were compared, and where they differ. */
function sameAcross(
  check: Extract<ResolvedCheck, { kind: 'same-across' }>,
  runs: readonly RunResult[],
): [RunResult[], string[]] {
  const problems: string[] = [];
  const compared: RunResult[] = [];
  for (const [first, ...others] of groupsAcross(check.axis, runs)) {
    if (first === undefined || others.length === 0) continue;
    compared.push(first, ...others);
    for (const other of others) {
      for (const aspect of check.compare) {
        const difference =
          aspect === 'verdicts'
            ? firstDifference(guestVerdicts(first), guestVerdicts(other))
            : differentContent(first, other, check.perCpu);
        if (difference !== undefined)
          problems.push(`${other.id} differs from ${first.id} in ${aspect}: ${difference}`);
      }
    }
  }
  return [compared, problems];
}

/** Verdicts of the guests' programs, wherever they ran. */
function guestVerdicts(run: RunResult): Map<string, string> {
  return new Map(
    run.hooks
      .filter(isGuestHook)
      .map((hook) => [`${hook.node} ${hook.program}`, formatVerdicts(hook.verdicts)]),
  );
}

/** The first element of the guests' maps in which runs differ; where each CPU has a value, in what it says of all of them. */
function differentContent(one: RunResult, other: RunResult, perCpu?: PerCpuMaps): string | undefined {
  const [contents, others] = [one, other].map((run) => mapContents(run, perCpu)) as [
    MapContents,
    MapContents,
  ];
  for (const key of new Set([...contents.keys(), ...others.keys()])) {
    const [a, b] = [contents.get(key), others.get(key)];
    if (a?.value === b?.value) continue;
    const map = a?.perCpu ?? b?.perCpu;
    if (map === undefined) return `${key} is ${b?.value ?? 'absent'}, not ${a?.value ?? 'absent'}`;
    // An element that is not there is one of zeros, which results leave out.
    const together = (entry: ContentEntry | undefined): ReadonlyMap<string, string> =>
      entry === undefined ? new Map() : overAllCpus(entry.perCpu ?? map, Buffer.from(entry.value, 'hex'));
    const difference = firstDifference(together(a), together(b), (member) => `${key}${member} over all CPUs`);
    if (difference !== undefined) return difference;
  }
  return undefined;
}

interface ContentEntry {
  readonly value: string;
  /** Where each CPU has a value. */
  readonly perCpu: MapSpec | undefined;
}
type MapContents = ReadonlyMap<string, ContentEntry>;

function mapContents(run: RunResult, perCpu?: PerCpuMaps): MapContents {
  const contents = new Map<string, ContentEntry>();
  for (const { guest, nic, name, entries } of run.maps) {
    const map = perCpu?.get(run.id)?.get(`${guest}.${nic}`)?.get(name);
    for (const { key, value } of entries)
      contents.set(`${guest}.${nic} ${name}[${key}]`, { value, perCpu: map });
  }
  return contents;
}

function firstDifference(
  a: ReadonlyMap<string, string>,
  b: ReadonlyMap<string, string>,
  placeOf: (key: string) => string = (key) => key,
): string | undefined {
  for (const key of new Set([...a.keys(), ...b.keys()])) {
    if (a.get(key) !== b.get(key))
      return `${placeOf(key)} is ${b.get(key) ?? 'absent'}, not ${a.get(key) ?? 'absent'}`;
  }
  return undefined;
}

/** `XDP_DROP 990, XDP_PASS 10`. */
export function formatVerdicts(verdicts: VerdictCounts): string {
  const parts = Object.entries(verdicts).filter(([, count]) => count > 0);
  return parts.length === 0 ? 'none' : parts.map(([verdict, count]) => `${verdict} ${count}`).join(', ');
}

/** The counter that an `expect` check names, or undefined when there is no such counter. */
function counter(run: RunResult, name: string): number | undefined {
  const [group, a, b] = name.split('.');
  switch (group) {
    case 'frames-sent':
      return run.framesSent;
    case 'ends':
      return sum(run.ends.filter((end) => end.fate === a).map((end) => end.frames));
    case 'verdicts':
      return sum(
        run.hooks
          .filter((hook) => hook.site === a)
          .map((hook) => hook.verdicts[b as keyof VerdictCounts] ?? 0),
      );
    case 'control':
      return a === 'ok' || a === 'err' ? sum(run.control.map((control) => control.acks[a])) : undefined;
    case 'rulings':
      return rulingsCounter(run, a);
    case 'migrations': {
      const moves = run.migrations ?? [];
      if (a === 'moved') return moves.filter(({ moved }) => moved).length;
      return a === 'stayed' ? moves.filter(({ moved }) => !moved).length : undefined;
    }
    case 'attachments':
      return a === 'refused'
        ? run.attachments.filter((attachment) => !attachment.attached).length
        : undefined;
    case 'audit':
      return run.audit.length;
    case 'verifier':
      return verifierCounter(run, a);
    case 'verification':
      return verificationCounter(run, a);
    default:
      return undefined;
  }
}

function rulingsCounter(run: RunResult, name: string | undefined): number | undefined {
  const { allow, deny, wouldDeny } = sumRulings(run);
  switch (name) {
    case 'allow':
      return allow;
    case 'deny':
      return deny;
    case 'would-deny':
      return wouldDeny;
    default:
      return undefined;
  }
}

/** Undefined where what was counted is not all: records that there was no room for may be rejections. */
function verifierCounter(run: RunResult, name: string | undefined): number | undefined {
  switch (name) {
    case 'accepted':
      return run.attachments.filter(({ placement, attached }) => placement === 'host' && attached).length;
    case 'rejected':
      return (run.dropped?.audit ?? 0) > 0
        ? undefined
        : run.audit.filter(({ code }) => code !== undefined).length;
    default:
      return undefined;
  }
}

function verificationCounter({ verification }: RunResult, name: string | undefined): number | undefined {
  switch (name) {
    case 'programs':
      return verification?.programs;
    case 'out-of-time':
      return verification?.outOfTime;
    case 'out-of-memory':
      return verification?.outOfMemory;
    case 'cancelled':
      return verification?.cancelled;
    default:
      return undefined;
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
