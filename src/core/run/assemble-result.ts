import { mapTypeName } from '../../bpf/map-spec.js';
import type { MeasuredRate, Measurements, TrafficReport } from '../contract/fabric.js';
import { finalProgram, type RunPlan } from '../contract/plan.js';
import type {
  AttackResult,
  AuditRecord,
  ControlResult,
  HookResult,
  LinkResult,
  MapResult,
  MigrationResult,
  OffloadResult,
  RateResult,
  RulingRecord,
  RunResult,
  TotalRate,
  VerdictCounts,
  VerificationResult,
} from '../contract/result.js';
import { spread } from '../measurement/spread.js';
import type { NicOutcome } from '../offload/nic-session.js';

/** A program of the host's own. */
export interface HostProgramOutcome {
  readonly site: 'host-nic' | 'tap-rx';
  readonly interface: string;
  readonly program: string;
  readonly verdicts: VerdictCounts;
}

export interface RunOutcomes {
  /** Name of the fabric. */
  readonly fabric: string;
  readonly traffic: TrafficReport;
  /** Undefined where nothing was measured. */
  readonly measured: Measurements | undefined;
  readonly hostPrograms: readonly HostProgramOutcome[];
  /** In the order of the plan. */
  readonly nics: readonly NicOutcome[];
  /** Of taps at which something is held. */
  readonly offloads: readonly OffloadResult[];
  readonly verification: VerificationResult;
  /** In the order of the plan. */
  readonly attacks: readonly AttackResult[];
  readonly migrations: readonly MigrationResult[];
  readonly rulings: readonly RulingRecord[];
  readonly audit: readonly AuditRecord[];
  /** Records of either kind that were not kept. */
  readonly dropped: { readonly rulings: number; readonly audit: number };
}

/** The result of a run, in the order of its plan whatever order things came in. */
export function assembleResult(plan: RunPlan, outcomes: RunOutcomes): RunResult {
  const { traffic, nics, dropped } = outcomes;
  const views = nics.flatMap(({ guest, nic, views: shown }) =>
    shown.map(({ command, text, json }) => ({ node: `${guest}.${nic}`, command, text, json })),
  );
  const requests = nics.flatMap((nic) => (nic.requests === undefined ? [] : [nic.requests]));
  return {
    id: plan.id,
    axes: { ...plan.axes },
    fabric: outcomes.fabric,
    framesSent: traffic.framesSent,
    framesCopied: traffic.framesCopied,
    attachments: nics.flatMap(({ attachment }) => (attachment === undefined ? [] : [attachment])),
    hooks: hooks(plan, outcomes),
    ends: [...traffic.ends],
    maps: nics.flatMap(mapResults),
    control: nics.map(({ guest, nic, control }): ControlResult => ({
      guest,
      nic,
      commands: { ...control.commands },
      acks: { ...control.acks },
    })),
    links: nics.map(({ guest, nic, link }): LinkResult => ({ guest, nic, ...link })),
    ...(views.length === 0 ? {} : { views }),
    ...(requests.length === 0 ? {} : { requests, verification: outcomes.verification }),
    ...(outcomes.attacks.length === 0 ? {} : { attacks: [...outcomes.attacks] }),
    ...(outcomes.migrations.length === 0 ? {} : { migrations: [...outcomes.migrations] }),
    ...measurements(plan, outcomes.measured),
    ...(outcomes.offloads.length === 0 ? {} : { offloads: [...outcomes.offloads] }),
    rulings: [...outcomes.rulings],
    audit: [...outcomes.audit],
    ...(dropped.rulings + dropped.audit === 0 ? {} : { dropped }),
  };
}

/** Along the way of a frame: the host's NICs, then each tap on both of its sides, then the guests. */
function hooks(plan: RunPlan, { hostPrograms, nics }: RunOutcomes): HookResult[] {
  const results: HookResult[] = [];
  const add = (
    site: HookResult['site'],
    node: string,
    program: string | undefined,
    verdicts: VerdictCounts | undefined,
  ): void => {
    if (verdicts === undefined || program === undefined) return;
    const frames = Object.values(verdicts).reduce((sum, count) => sum + count, 0);
    results.push({ site, node, program, frames, verdicts });
  };
  const addHost = (site: HostProgramOutcome['site'], name: string): void => {
    for (const host of hostPrograms) {
      if (host.site === site && host.interface === name)
        add(site, `host.${name}`, host.program, host.verdicts);
    }
  };
  const planned = plan.guests.flatMap((guest) => guest.nics.map((nic) => ({ guest: guest.name, nic })));
  const outcomeOf = (guest: string, nic: string): NicOutcome | undefined =>
    nics.find((outcome) => outcome.guest === guest && outcome.nic === nic);

  for (const { name } of plan.host.nics) addHost('host-nic', name);
  for (const { name } of plan.host.taps) {
    addHost('tap-rx', name);
    for (const { guest, nic } of planned) {
      if (nic.tap !== name) continue;
      add('offload', `${guest}.${nic.name}`, finalProgram(nic), outcomeOf(guest, nic.name)?.verdicts.offload);
    }
  }
  for (const { guest, nic } of planned) {
    add('guest-driver', `${guest}.${nic.name}`, nic.program, outcomeOf(guest, nic.name)?.verdicts.driver);
  }
  return results;
}

/** What was not to be measured is absent, and so is what could not. */
function measurements(
  plan: RunPlan,
  measured: Measurements | undefined,
): Pick<RunResult, 'rates' | 'totalRate' | 'ratesUnmeasured' | 'exchanges'> {
  const { rates = [], exchanges = [], ratesUnmeasured } = measured ?? {};
  return {
    ...(rates.length === 0 ? {} : { rates: rates.map((rate) => rateResult(plan, rate)) }),
    ...(rates.length > 0 && plan.measure?.together === true ? { totalRate: totalRate(rates) } : {}),
    ...(ratesUnmeasured === undefined ? {} : { ratesUnmeasured }),
    ...(exchanges.length === 0 ? {} : { exchanges: [...exchanges] }),
  };
}

/** Of nics that were loaded at the same time: their samples are, too. */
function totalRate(rates: readonly MeasuredRate[]): TotalRate {
  const samples = rates[0]!.samples.map((_, index) =>
    rates.reduce((sum, rate) => sum + (rate.samples[index] ?? 0), 0),
  );
  const medians = rates.map(({ framesPerSecond }) => framesPerSecond.median);
  const sum = medians.reduce((a, b) => a + b, 0);
  const squares = medians.reduce((a, b) => a + b * b, 0);
  return {
    framesPerSecond: spread(samples),
    samples,
    offeredPerSecond: rates.reduce((all, { offeredPerSecond }) => all + offeredPerSecond, 0),
    // R. Jain, D. Chiu, W. Hawe: A Quantitative Measure of Fairness, DEC-TR-301, 1984.
    fairness: squares === 0 ? 1 : Math.min(1, (sum * sum) / (rates.length * squares)),
  };
}

function rateResult(plan: RunPlan, rate: MeasuredRate): RateResult {
  const nics = plan.guests.flatMap((guest) =>
    guest.nics.map((nic) => ({ node: `${guest.name}.${nic.name}`, nic })),
  );
  const nic = nics.find(({ node }) => node === rate.node)?.nic;
  return {
    ...rate,
    ...(nic?.program === undefined ? {} : { program: nic.program }),
    placement: nic?.placement ?? 'guest',
  };
}

function mapResults({ guest, nic, maps }: NicOutcome): MapResult[] {
  return maps.map(({ name, type, readFrom, entries, records, unreadable }) => ({
    guest,
    nic,
    name,
    type: mapTypeName(type),
    readFrom,
    entries: entries
      .filter(({ value }) => value.some((byte) => byte !== 0))
      .map(({ key, value }) => ({ key: hex(key), value: hex(value) }))
      .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)),
    ...(records === undefined
      ? {}
      : { records: records.map(({ cpu, data, lost }) => ({ cpu, data: hex(data), lost })) }),
    ...(unreadable === undefined ? {} : { unreadable }),
  }));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
