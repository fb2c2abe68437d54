import { EBUSY, EOPNOTSUPP, errnoName } from '../../../bpf/errno.js';
import type { MoveReport } from '../../contract/device.js';
import { messageOf } from '../../diagnostic.js';
import type { CommandContext } from '../bpf-scope.js';
import type { GuestBpf } from '../guest-bpf.js';
import { missingCapabilities, type DeviceCapabilities } from '../protocol/capabilities.js';
import { failed, STALE, type Refusal } from '../refusal.js';
import { copyMapContent } from './copy-map.js';
import { replayObjects, type ReplayedObjects } from './replay-objects.js';

/** One end of a move. */
export interface MoveEnd {
  readonly bpf: GuestBpf;
  readonly capabilities: DeviceCapabilities;
}

/**
 * A guest's programs, maps and counters on their way to another host: everything is there, nobody uses it yet, and the guest
 * runs on where it is.
 */
export class PreparedMove {
  #switching: Promise<void> | undefined;
  #bytesAtSwitch = 0;
  #copied = false;
  #problem: Refusal | undefined;

  private constructor(
    readonly from: GuestBpf,
    readonly to: GuestBpf,
    readonly replayed: ReplayedObjects,
    readonly context: CommandContext,
  ) {}

  /**
   * Asks both hosts' policies, compares what they are able to do, and has the other host make everything: or says why
   * not, and nothing of it is left there. The guest's programs go on meanwhile; commands must not.
   */
  static async prepare(from: MoveEnd, to: MoveEnd, context: CommandContext): Promise<PreparedMove | Refusal> {
    const replayed = ruleOnMove(from, to, context) ?? (await replayObjects(from.bpf, to.bpf, context));
    if (!('ok' in replayed)) return new PreparedMove(from.bpf, to.bpf, replayed, context);
    await to.bpf.reset();
    return replayed;
  }

  /**
   * Copies what has changed, in the stretch in which the switch is to be: no frame comes between. False when the guest has
   * to stay where it is, which `finish` tells the reason of; nothing of it has changed, and `abort` is called, too.
   */
  copy(): boolean {
    const { replayed, context } = this;
    this.#copied = true;
    if (context.epoch.aborted) {
      this.#problem = STALE;
      return false;
    }
    for (const [source, copy] of replayed.changing) {
      const copied = copyMapContent(source.map, copy.map);
      if (typeof copied === 'number') {
        this.#problem = failed(-copied, `map ${source.id} cannot be filled: ${errnoName(copied)}`);
        return false;
      }
      this.#bytesAtSwitch += copied.bytes;
    }
    return true;
  }

  /**
   * The switch: puts the other host's program in the place of this one's, once what has changed is copied (`copy`), all in
   * one stretch in which no frame is processed. What the place says to it comes with `finish`.
   */
  commit(): void {
    const { from, replayed } = this;
    if (this.#copied ? this.#problem !== undefined : !this.copy()) return;
    for (const [source, copy] of replayed.counterparts) {
      if (source.kind !== 'map' || copy.kind !== 'map' || !source.frozen || copy.frozen) continue;
      copy.map.freeze();
      copy.frozen = true;
    }
    this.#switching = from.switchTo(replayed.counterparts);
    // Told by `finish`.
    this.#switching.catch(() => undefined);
  }

  /**
   * From here on the other host answers the guest; or it does not, and this one goes on. Called once, after `commit`.
   * After the switch a reset does not have the guest stay, since its other nics may have gone: it arrives with nothing.
   * @param arrive called in the same stretch in which the other host takes everything over: has `to` answer the guest. A
   * reset that comes later finds all that there is there.
   */
  async finish(arrive: () => void): Promise<MoveReport | Refusal> {
    try {
      await this.#switching;
    } catch (error) {
      this.#problem = failed(EBUSY, `the program could not be replaced: ${messageOf(error)}`);
    }
    if (this.#problem !== undefined) {
      await this.abort();
      return this.#problem;
    }
    const { from, to, replayed, context } = this;
    const wasReset = context.epoch.aborted;
    if (wasReset) await this.#untilPlaceIsLeft();
    const objects = wasReset ? [] : [...replayed.counterparts.keys()];
    const report = {
      maps: objects.filter(({ kind }) => kind === 'map').length,
      programs: objects.filter(({ kind }) => kind === 'program').length,
      bytesBefore: replayed.bytes,
      bytesAtSwitch: this.#bytesAtSwitch,
    };
    to.takeOver(from, replayed.counterparts);
    arrive();
    if (wasReset) await to.reset();
    await from.going;
    return report;
  }

  /** Gives back what the other host has made, once the place has let go of it. */
  async abort(): Promise<void> {
    await this.#untilPlaceIsLeft();
    await this.to.reset();
  }

  /** A reset that came meanwhile takes away what is attached, which may be the other host's program already. */
  async #untilPlaceIsLeft(): Promise<void> {
    while (this.from.underWay !== undefined) await this.from.underWay;
  }
}

function ruleOnMove(from: MoveEnd, to: MoveEnd, { id }: CommandContext): Refusal | undefined {
  const { usage } = from.bpf;
  const details = { usageOfMove: usage, attached: from.bpf.attachedProgram !== undefined };
  const out = from.bpf.rule(id, { operation: 'migrate-out', ...details });
  if (out !== undefined) return out;
  if (!from.bpf.replacesAtOnce) {
    return failed(
      EOPNOTSUPP,
      'programs of this fabric run while maps are copied, so that an update could be lost: detach first, or let policy migration block',
    );
  }
  const missing = missingCapabilities(from.capabilities, to.capabilities);
  if (missing.length > 0) return failed(EOPNOTSUPP, `the other host has ${missing.join('; ')}`);
  return to.bpf.rule(id, { operation: 'migrate-in', ...details });
}
