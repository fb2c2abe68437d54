import { EBUSY } from '../../bpf/errno.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { Attachment, HookPlace } from '../contract/hook-place.js';
import type { VerdictCounts } from '../contract/result.js';
import type { LinkObject, ObjectReference, ProgramObject } from './device-object.js';
import { hostFailed, STALE, type Refusal } from './refusal.js';

/**
 * The one place of a nic's offloaded programs: what is there, on whose behalf, and that things are done to it one after
 * the other. What is attached is held: it cannot go before its place has let go of it.
 */
export class ProgramPlace {
  #attached:
    | {
        readonly program: ObjectReference<ProgramObject>;
        readonly attachment: Attachment;
        /** Undefined: RFC 2019's, which has no links. */
        readonly link: LinkObject | undefined;
      }
    | undefined;
  #underWay: Promise<unknown> | undefined;

  #place: HookPlace;

  constructor(place: HookPlace) {
    this.#place = place;
  }

  /** See {@link HookPlace.replacesAtOnce}. */
  get replacesAtOnce(): boolean {
    return this.#place.replacesAtOnce === true;
  }

  /** Where a program is attached, whose program takes its place: the other keeps what it holds until `takeOver`. */
  async switchTo(program: LoadedProgram): Promise<void> {
    await this.#attached?.attachment.replace(program);
  }

  /** What was attached by another is attached by this one from now on; `program` runs there already. */
  takeOver(
    from: ProgramPlace,
    program: ObjectReference<ProgramObject> | undefined,
    link: LinkObject | undefined,
  ): void {
    this.#place = from.#place;
    const attached = from.#attached;
    from.#attached = undefined;
    if (attached === undefined || program === undefined) return;
    this.#attached = { program, attachment: attached.attachment, link };
    attached.program.release();
  }

  /** The link that holds what is attached. */
  get link(): LinkObject | undefined {
    return this.#attached?.link;
  }

  /** Settles, and never rejects, when what is being done to the place is done, resets included; undefined: nothing is. */
  get underWay(): Promise<unknown> | undefined {
    return this.#underWay;
  }

  /** What runs in front of the guest, if anything does. */
  get program(): ProgramObject | undefined {
    return this.#attached?.program.object;
  }

  get loaded(): LoadedProgram | undefined {
    return this.program?.program;
  }

  /** What is attached by a link. */
  programOf(link: LinkObject): ProgramObject | undefined {
    return this.#attached?.link === link ? this.program : undefined;
  }

  /** What programs of the attachment that there is returned so far. */
  async counters(): Promise<VerdictCounts | undefined> {
    return this.#attached?.attachment.counters();
  }

  /**
   * Puts a program in, or in the place of what is there; what that was stays until its successor is in place, whatever
   * fails on the way. Takes over the reference when it returns nothing, and otherwise lets go of it.
   * @param expected what has to be there at that moment; undefined: anything, or nothing
   */
  put(
    program: ObjectReference<ProgramObject>,
    epoch: AbortSignal,
    {
      link,
      expected,
    }: {
      readonly link?: LinkObject | undefined;
      readonly expected?: (now: ProgramObject | undefined) => Refusal | undefined;
    } = {},
  ): Promise<Refusal | undefined> {
    return this.#alone(async () => {
      // A reset that came meanwhile has let go of the program, too.
      const refusal = epoch.aborted ? STALE : expected?.(this.program);
      if (refusal !== undefined) {
        program.release();
        return refusal;
      }
      const previous = this.#attached;
      let attachment: Attachment;
      try {
        if (previous === undefined) {
          attachment = await this.#place.attach(program.object.program);
        } else {
          attachment = previous.attachment;
          await attachment.replace(program.object.program);
        }
      } catch (error) {
        program.release();
        return hostFailed(EBUSY, 'the program in front of the guest cannot be changed', error);
      }
      this.#attached = { program, attachment, link };
      previous?.program.release();
      // A reset that came meanwhile is waiting for this, and takes it away again.
      return epoch.aborted ? STALE : undefined;
    });
  }

  /** Takes away what is there; with a link, only if it is that link's. Success when there is nothing. */
  take(link?: LinkObject): Promise<Refusal | undefined> {
    const isThere = (): boolean =>
      this.#attached !== undefined && (link === undefined || this.#attached.link === link);
    return this.#alone(async () => {
      const previous = this.#attached;
      if (previous === undefined || !isThere()) return undefined;
      try {
        await previous.attachment.detach();
      } catch (error) {
        // A program that may still be called must not be closed.
        return hostFailed(EBUSY, 'the program in front of the guest cannot be changed', error);
      }
      if (this.#attached === previous) {
        this.#attached = undefined;
        previous.program.release();
      }
      return undefined;
    });
  }

  /** Runs `work` when nothing else is being done to the place: at once if that is so. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#underWay === undefined ? work() : this.#underWay.then(work);
    const settled = run.then(
      () => undefined,
      () => undefined,
    );
    this.#underWay = settled;
    void settled.then(() => {
      if (this.#underWay === settled) this.#underWay = undefined;
    });
    return run;
  }
}
