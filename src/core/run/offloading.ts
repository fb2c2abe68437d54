import { parseObjectFile } from '../../bpf/object-file.js';
import type { HelperWorld } from '../../bpf/runtime/helper-world.js';
import type { EventLoopTurns } from '../clock/event-loop-turns.js';
import { PS_PER_NS, type Clock } from '../contract/clock.js';
import type { Attack } from '../contract/attack.js';
import type { Device, DeviceEvents, DeviceMove } from '../contract/device.js';
import type { Events } from '../contract/event.js';
import type { Deployment, HostPlace } from '../contract/fabric.js';
import type { Party, PartyFactory, PartyOptions } from '../contract/party.js';
import type { ProgramPlan, RunPlan } from '../contract/plan.js';
import type { ChainedPolicy } from '../contract/policy.js';
import {
  emptyVerdictCounts,
  type AttackResult,
  type MigrationResult,
  type OffloadResult,
} from '../contract/result.js';
import type { Random } from '../contract/run-scope.js';
import type { Objects } from '../contract/run-spec.js';
import type { WorkloadFrame } from '../contract/workload.js';
import { messageOf, XdpbedError } from '../diagnostic.js';
import { AttackRun } from '../attack/attack-run.js';
import { VirtualClock } from '../clock/virtual-clock.js';
import { CommandTurns } from '../offload/command-turns.js';
import { CountedPlace } from '../offload/counted-place.js';
import { meteringExecutor } from '../offload/metering-executor.js';
import { loadObjectProgram, requireAccepted } from '../offload/load-program.js';
import { NicSession, type NicOutcome, type ProgramInPlace } from '../offload/nic-session.js';
import { objectProgram } from '../offload/object-program.js';
import { OffloadRecords } from '../offload/offload-records.js';
import { tellChain } from '../offload/policy-chain.js';
import { QuotaAccounts } from '../offload/quota-accounts.js';
import { UndoSteps } from '../offload/undo-steps.js';
import type { GuestVerification } from '../verification/guest-verification.js';
import type { HostProgramOutcome, RunOutcomes } from './assemble-result.js';

export interface OffloadingOptions {
  readonly plan: RunPlan;
  readonly deployment: Deployment;
  readonly parties: PartyFactory;
  /** What answers the guests. */
  readonly device: Device;
  /** What hostile guests do, by their nics. */
  readonly attacks: readonly { readonly node: string; readonly attack: Attack }[];
  /** Which guests go to another host. */
  readonly migrations: readonly Migration[];
  readonly random: Random;
  /** Of what guests offload. */
  readonly verification: GuestVerification;
  /** Of what guests and host load into kernels of their own: in processes, too, so that it keeps nobody up. */
  readonly ownVerification: Readonly<Record<'guest' | 'host', GuestVerification>>;
  readonly policies: readonly ChainedPolicy[];
  readonly objects: Objects;
  readonly clock: Clock;
  readonly events: Events;
  readonly turns: EventLoopTurns;
}

/**
 * Bytes that the programs and maps of one nic may have on the host: what a guest can make the host hold where no quota
 * says less.
 */
const OFFLOAD_MEMORY_BYTES = 256 * 1024 * 1024;

const PS_PER_US = 1_000 * PS_PER_NS;

/** A guest that goes to another host in the midst of the traffic. */
export interface Migration {
  readonly guest: string;
  /** Frames of the workload that are sent before. */
  readonly afterFrames: number;
  /** Of the host that it goes to. */
  readonly policies: readonly ChainedPolicy[];
}

/** A guest whose nics are all ready to go. */
interface Move {
  readonly afterFrames: number;
  readonly nics: readonly { readonly session: NicSession; readonly move: DeviceMove }[];
  /** Undefined before it was tried; then for each nic whether it could go. All were switched, or none. */
  copied?: readonly boolean[];
  over: boolean;
}

/** A program of the host's own, in its place. */
interface HostProgram {
  readonly site: HostPlace['site'];
  readonly interface: string;
  readonly program: string;
  readonly place: CountedPlace;
}

/**
 * All that is attached, offloaded and asked in one run, on whichever fabric: the host's own programs and a session
 * for each guest nic, put into the places that the fabric lends.
 */
export class Offloading {
  readonly #options: OffloadingOptions;
  readonly #accounts = new QuotaAccounts();
  readonly #records = new OffloadRecords();
  readonly #hostPrograms: HostProgram[] = [];
  readonly #sessions: NicSession[] = [];
  readonly #undo = new UndoSteps();
  readonly #commandTurns: CommandTurns;
  readonly #attackRuns: AttackRun[] = [];
  readonly #moves: Move[] = [];
  readonly #moved: MigrationResult[] = [];
  /** Of the hosts that guests go to, which are one. */
  readonly #accountsThere = new QuotaAccounts();
  #closed = false;

  constructor(options: OffloadingOptions) {
    this.#options = options;
    this.#commandTurns = new CommandTurns(
      options.device.service ?? 'turns',
      Math.round(options.plan.host.commandMicroseconds * PS_PER_US),
    );
  }

  /** The host's programs first, then the guests' nics in the order of the plan, each with its program. */
  async attach(): Promise<void> {
    await this.#attachHostPrograms();
    const { countWork } = this.#options.deployment;
    const { policies } = this.#options;
    for (const guest of this.#options.plan.guests) {
      let party: Promise<Party> | undefined;
      const guestParty = (): Promise<Party> =>
        (party ??= this.#openParty(guest.name, { cpus: guest.cpus, countWork }));
      for (const nic of guest.nics) {
        const node = `${guest.name}.${nic.name}`;
        // What a guest offloads runs in a party of its own: no other guest's memory is in reach.
        const hostParty = await this.#openHostParty(
          `host for ${node}`,
          { guest: guest.name, nic: nic.name },
          policies,
        );
        const session = await NicSession.open({
          guest: guest.name,
          plan: nic,
          places: this.#nicPlaces(guest.name, nic.name),
          hostParty,
          guestParty,
          world: this.#world(node),
          device: this.#options.device,
          commandTurns: this.#commandTurns,
          attacks: this.#options.attacks.some((each) => each.node === node),
          policies,
          accounts: this.#accounts,
          clock: this.#options.clock,
          events: this.#deviceEvents(),
          giveWay: () => this.#options.turns.next(),
        });
        this.#sessions.push(session);
        await this.#keep(() => session.close());
        if (nic.program !== undefined) await this.#install(session, nic.program);
      }
    }
  }

  /** Has all guests keep asking for what their plans say, at the same time. */
  async requests(signal: AbortSignal): Promise<void> {
    const { plan, objects } = this.#options;
    const nics = plan.guests.flatMap((guest) => guest.nics);
    const ended = await Promise.allSettled(
      this.#sessions.map((session, index) => {
        const { requests, placement } = nics[index]!;
        if (requests?.kind !== 'load') return session.sendRequests(undefined, signal);
        const program = plan.programs[requests.name]!;
        return session.sendRequests({ program, object: objects.get(program.object), placement }, signal);
      }),
    );
    const failed = ended.find((end) => end.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  /** Has hostile guests do what they are there for, one after the other. */
  async attack(): Promise<void> {
    const { attacks, accounts, clock, random, objects } = { ...this.#options, accounts: this.#accounts };
    const nodes = new Set(attacks.map(({ node }) => node));
    for (const { node, attack } of attacks) {
      const attacker = this.#sessions.find((session) => session.node === node);
      const neighbour = this.#sessions.find(
        (session) => !nodes.has(session.node) && session.guest !== attacker?.guest,
      );
      if (attacker === undefined) throw missing(`nic ${node}`);
      if (neighbour === undefined) throw missing('guest beside those that attack');
      const run = new AttackRun({
        attack,
        attacker,
        neighbour,
        accounts,
        turns: this.#commandTurns,
        clock: clock instanceof VirtualClock ? clock : undefined,
        random: random(`attack ${node}`),
        object: (file) => objects.get(file),
        recordsOf: (guest) =>
          [...this.#records.audit, ...this.#records.rulings].filter((record) => record.guest === guest)
            .length,
        recordLimit: 2 * this.#records.limit,
      });
      this.#attackRuns.push(run);
      await run.run();
    }
  }

  /** Has everything of the guests that go to another host made ready there: of all nics of a guest, or of none. */
  async prepareMoves(): Promise<void> {
    for (const migration of this.#options.migrations) {
      const ready = await this.#prepareMove(migration);
      if (ready !== undefined) this.#moves.push(ready);
    }
  }

  async #prepareMove({ guest, afterFrames, policies }: Migration): Promise<Move | undefined> {
    const nics: { session: NicSession; move: DeviceMove }[] = [];
    const ready: Move = { afterFrames, nics, over: false };
    // Before the first is ready: where another throws, commands of those that are would wait for ever.
    await this.#keep(() => abort(ready));
    const sessions = this.#sessions.filter((session) => session.guest === guest);
    for (const session of sessions) {
      // The other host judges and runs what comes, and its own policies are told what that took.
      const party = await this.#openHostParty(`other host for ${session.node}`, session, policies);
      const accounts = this.#accountsThere;
      const move = await session.prepareMove({ party, policies, accounts });
      if (!('ok' in move)) {
        nics.push({ session, move });
        continue;
      }
      await abort(ready);
      for (const each of sessions) {
        const reason = each === session ? move.reason : `${session.node} cannot go: ${move.reason}`;
        this.#moved.push({ node: each.node, afterFrames, moved: false, reason });
      }
      return undefined;
    }
    return ready;
  }

  /** Frames as they come, and in between guests go when it is their time. */
  moving(frames: Iterable<WorkloadFrame>): Iterable<WorkloadFrame> {
    return this.#moves.length === 0 ? frames : this.#moving(frames);
  }

  *#moving(frames: Iterable<WorkloadFrame>): Generator<WorkloadFrame> {
    let sent = 0;
    for (const frame of frames) {
      for (const ready of this.#moves) if (sent === ready.afterFrames) commit(ready);
      yield frame;
      sent++;
    }
  }

  /** What came of the moves; a guest whose time did not come while there was traffic goes now. */
  async finishMoves(): Promise<void> {
    for (const ready of this.#moves) {
      const { afterFrames, nics } = ready;
      const copied = commit(ready);
      ready.over = true;
      const first = copied.indexOf(false);
      let why = '';
      // Who could not go comes first, so that the others can say why they stay.
      const order = [...nics.keys()].sort((a, b) => Number(b === first) - Number(a === first));
      const finish = async (index: number): Promise<void> => {
        const { session, move } = nics[index]!;
        const { node } = session;
        if (first >= 0 && copied[index] === true) {
          await move.abort();
          this.#moved.push({ node, afterFrames, moved: false, reason: why });
          return;
        }
        const report = await move.finish();
        if (!('ok' in report)) {
          this.#moved.push({ node, afterFrames, moved: true, ...report });
          return;
        }
        if (index === first) why = `${node} cannot go: ${report.reason}`;
        this.#moved.push({ node, afterFrames, moved: false, reason: report.reason });
      };
      await allOf(order.map((index) => () => finish(index)));
    }
  }

  /** What was seen, read when the traffic is over. */
  async outcomes(): Promise<Omit<RunOutcomes, 'fabric' | 'traffic' | 'measured'>> {
    const nics: NicOutcome[] = [];
    for (const session of this.#sessions) nics.push(await session.outcome());
    const hostPrograms: HostProgramOutcome[] = [];
    for (const { place, ...program } of this.#hostPrograms) {
      hostPrograms.push({ ...program, verdicts: (await place.counters()) ?? emptyVerdictCounts() });
    }
    const attacks: AttackResult[] = [];
    for (const run of this.#attackRuns) attacks.push(await run.judge());
    const { rulings, audit, dropped } = this.#records;
    const offloads = (await this.offloads()).filter(
      ({ program, maps }) => program !== undefined || maps.length > 0,
    );
    return {
      offloads,
      nics,
      hostPrograms,
      verification: this.#options.verification.cost,
      attacks,
      migrations: [...this.#moved],
      rulings,
      audit,
      dropped,
    };
  }

  /** What the host holds now at each tap for its guest, in the order of the plan. */
  async offloads(): Promise<OffloadResult[]> {
    const offloads: OffloadResult[] = [];
    for (const session of this.#sessions) offloads.push(await session.offloadState());
    return offloads;
  }

  /** Every program that was to be attached, and what it has returned so far. */
  async programs(): Promise<ProgramInPlace[]> {
    const programs: ProgramInPlace[] = [];
    for (const { site, interface: name, program, place } of this.#hostPrograms) {
      const verdicts = (await place.counters()) ?? emptyVerdictCounts();
      programs.push({ site, node: `host.${name}`, program, attached: true, verdicts });
    }
    for (const session of this.#sessions) {
      const program = await session.program();
      if (program !== undefined) programs.push(program);
    }
    return programs;
  }

  /**
   * Takes everything away, last first; what fails does not keep the rest up. Called when `attach` has ended, unless
   * that does not end: what it still brings up later is taken away at once.
   */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#undo.run();
  }

  /** A host on behalf of one nic: no other shares its memory, and its policies are told what it spends. */
  async #openHostParty(
    name: string,
    { guest, nic }: { readonly guest: string; readonly nic: string },
    policies: readonly ChainedPolicy[],
  ): Promise<Party> {
    const { parties, verification, clock } = this.#options;
    const countsInsns = policies.some((policy) => policy.countsInsns === true);
    const party = await parties.open(name, {
      ...this.#hostSide(),
      ...(countsInsns ? { countWork: true } : {}),
      memoryBytes: OFFLOAD_MEMORY_BYTES,
    });
    const verifier = verification.for(guest, party.verifier, (milliseconds) =>
      tellChain(policies, { kind: 'verification', guest, nic, time: clock.now(), milliseconds }),
    );
    if (!countsInsns) return { ...party, verifier };
    const executor = meteringExecutor(party.executor, (insns) =>
      tellChain(policies, { kind: 'insns', guest, nic, time: clock.now(), insns }),
    );
    return { ...party, verifier, executor };
  }

  async #keep(undo: () => void | Promise<void>): Promise<void> {
    if (this.#closed) await undo();
    else this.#undo.add(undo);
  }

  /** Without the host's programs the run makes no sense, so a rejection ends it. */
  async #attachHostPrograms(): Promise<void> {
    const { plan, deployment } = this.#options;
    let party: Party | undefined;
    const wanted = [
      ...plan.host.nics.map(({ name, program }) => ({ site: 'host-nic', name, program }) as const),
      ...plan.host.taps.map(({ name, rxProgram }) => ({ site: 'tap-rx', name, program: rxProgram }) as const),
    ];
    for (const { site, name, program } of wanted) {
      if (program === undefined) continue;
      const lent = deployment.hostPlaces.find((each) => each.site === site && each.interface === name);
      if (lent === undefined) throw missing(`place for a program at ${site} of ${name}`);
      party ??= await this.#openParty('host', this.#hostSide());
      const programPlan = plan.programs[program]!;
      const object = this.#readObject(programPlan);
      const loaded = requireAccepted(
        await loadObjectProgram(party, object, objectProgram(object, programPlan), {
          world: this.#world(`host.${name}`),
          initial: new Map(Object.entries(programPlan.presets)),
        }),
      );
      await this.#keep(() => loaded.close());
      const place = new CountedPlace(lent.place);
      const attachment = await place.attach(loaded.loaded);
      await this.#keep(() => attachment.detach());
      this.#hostPrograms.push({ site, interface: name, program, place });
    }
  }

  /** A kernel of its own: what it loads is verified under the same limits, but not in anybody's turn. */
  async #openParty(name: string, options: PartyOptions): Promise<Party> {
    const party = await this.#options.parties.open(name, options);
    return {
      ...party,
      verifier: this.#options.ownVerification[options.side ?? 'guest'].for(name, party.verifier),
    };
  }

  #hostSide(): PartyOptions {
    const { plan, deployment } = this.#options;
    const { hostBindings, countWork } = deployment;
    return { side: 'host', cpus: plan.host.cpus, bindings: hostBindings, countWork };
  }

  async #install(session: NicSession, name: string): Promise<void> {
    const { plan, objects, events } = this.#options;
    const program = plan.programs[name]!;
    const { node, placement, attached } = await session.install(program, objects.get(program.object));
    if (attached) events.emit({ event: 'program-attached', run: plan.id, node, program: name, placement });
  }

  #nicPlaces(guest: string, nic: string): Deployment['nics'][number] {
    const places = this.#options.deployment.nics.find((each) => each.guest === guest && each.nic === nic);
    if (places === undefined) throw missing(`nic ${guest}.${nic}`);
    return places;
  }

  #readObject(program: ProgramPlan): ReturnType<typeof parseObjectFile> {
    return parseObjectFile(this.#options.objects.get(program.object), program.object, program);
  }

  #world(node: string): HelperWorld {
    const { plan, events, clock } = this.#options;
    // Programs are told the time with each frame, of which many come at the same: a bigint costs as much as a short program.
    let last = 0;
    let time = 0n;
    return {
      trace: (text) => events.emit({ event: 'trace', run: plan.id, node, text }),
      now: () => {
        const ns = Math.floor(clock.now() / PS_PER_NS);
        if (ns !== last) {
          last = ns;
          time = BigInt(ns);
        }
        return time;
      },
    };
  }

  #deviceEvents(): DeviceEvents {
    const { plan, events } = this.#options;
    return {
      ruling: (record) => {
        this.#records.addRuling(record);
        events.emit({ event: 'ruling', run: plan.id, record });
      },
      audit: (record) => {
        this.#records.addAudit(record);
        events.emit({ event: 'audit', run: plan.id, record });
      },
    };
  }
}

/** All nics in one stretch, once it is known of each that it can go. Returns of each whether it could. */
function commit(ready: Move): readonly boolean[] {
  if (ready.copied !== undefined) return ready.copied;
  ready.copied = ready.nics.map(({ move }) => move.copy());
  if (!ready.copied.includes(false)) for (const { move } of ready.nics) move.commit();
  return ready.copied;
}

/** What fails of one nic does not keep the rest up. */
async function abort(ready: Move): Promise<void> {
  if (ready.over) return;
  ready.over = true;
  await allOf(
    ready.nics.map(
      ({ move }) =>
        async () =>
          move.abort(),
    ),
  );
}

/** Does one after the other, all of them, whatever each throws; then throws that. */
async function allOf(steps: readonly (() => Promise<void>)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const step of steps) await step().catch((error: unknown) => failures.push(error));
  if (failures.length === 1) throw failures[0];
  if (failures.length > 1) throw new AggregateError(failures, failures.map(messageOf).join('; '));
}

function missing(what: string): XdpbedError {
  return new XdpbedError('plugin-failed', `the fabric's deployment has no ${what}`);
}
