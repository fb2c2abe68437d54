import { EACCES, ENOMEM, ENOSPC, EPERM } from '../../bpf/errno.js';
import { Btf } from '../../bpf/btf/btf.js';
import type { HostUsage, PolicyRequest } from '../contract/policy.js';
import type { GuestBpfLimits, GuestBpfOptions } from './guest-bpf-options.js';
import type { ObjectTable } from './object-table.js';
import { ruleByChain } from './policy-chain.js';
import type { Charge } from '../contract/device.js';
import { denied, failed, type Refusal } from './refusal.js';

/** One command, as far as carrying it out depends on it. */
export interface CommandContext {
  /** Its number on the nic, from 1. */
  readonly id: number;
  /** Fires when the device is reset or unplugged: the command must then not have any effect. */
  readonly epoch: AbortSignal;
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
/** A request to policies without what is the same in all of them. */
export type RequestDetails = DistributiveOmit<
  PolicyRequest,
  'id' | 'time' | 'guest' | 'nic' | 'usage' | 'totalUsage'
>;

/** Bytes of the host's memory that a program takes as executor `wasm` has it, which takes most, measured: 59 KB and 431 for each insn. */
const PROGRAM_BYTES = 64 * 1024;
const INSN_BYTES = 512;

/** Bytes that a map takes beside its memory and its elements, measured: 3.0 to 3.8 KB. */
const MAP_BYTES = 4 * 1024;

/** Bytes that what a guest holds takes of the host, about: maps and BTF as they are charged for and more, programs by their length. */
function heldBytes(amount: Partial<HostUsage>): number {
  const { maps = 0, mapMemory = 0, btfMemory = 0, programs = 0, insns = 0 } = amount;
  return maps * MAP_BYTES + mapMemory + btfMemory + programs * PROGRAM_BYTES + insns * INSN_BYTES;
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / (1024 * 1024));
}

/** What the parts of one guest's BPF share. */
export class BpfScope {
  /** Of what was charged and not given back, see `heldBytes`. */
  #heldBytes = 0;
  /** The BTF that was parsed last: it takes ten times the memory of its bytes, so there is one. */
  #parsed: { readonly bytes: Uint8Array; readonly btf: Btf } | undefined;

  constructor(
    readonly options: GuestBpfOptions,
    readonly limits: GuestBpfLimits,
    readonly objects: ObjectTable,
  ) {}

  /** `guest0.eth0` */
  get label(): string {
    return `${this.options.guest}.${this.options.nic}`;
  }

  /**
   * The types in a section, which nobody writes to. A guest that makes several maps and programs with the same BTF has it
   * parsed once.
   * @throws XdpbedError `btf-invalid`
   */
  btfOf(bytes: Uint8Array): Btf {
    if (this.#parsed?.bytes !== bytes) this.#parsed = { bytes, btf: new Btf(bytes) };
    return this.#parsed.btf;
  }

  /** Nothing is left of the guest's objects. */
  forget(): void {
    this.#parsed = undefined;
  }

  /** Asks the policies; `except` is not counted against the request. */
  rule(id: number, request: RequestDetails, except?: Charge): Refusal | undefined {
    const { guest, nic, accounts, policies, clock, onRuling } = this.options;
    if (policies.length === 0) return undefined;
    const usage = accounts.usageOf(guest, except);
    const totalUsage = accounts.totalUsage(except);
    const whole = { id, time: clock.now(), guest, nic, usage, totalUsage, ...request };
    const answer = ruleByChain(policies, whole, onRuling);
    return answer.ruling === 'allow'
      ? undefined
      : denied(answer, request.operation === 'map-create' ? EPERM : EACCES);
  }

  /**
   * Charges the guest for what is about to be made, where the device has room for it whatever policies say.
   * @param beside bytes that it takes besides, which the guest's account does not know
   */
  charge(amount: Partial<HostUsage>, beside = 0): Charge | Refusal {
    const { guest, accounts } = this.options;
    const { maxBytes } = this.limits;
    const bytes = heldBytes(amount) + beside;
    if (this.#heldBytes + bytes > maxBytes) {
      const [wants, has, used] = [bytes, maxBytes, this.#heldBytes].map(mebibytes);
      return failed(
        ENOMEM,
        `it wants ${wants} MiB; the device has ${has} MiB for maps, programs and BTF, of which ${used} are taken`,
      );
    }
    const charge = accounts.charge(guest, amount);
    this.#heldBytes += bytes;
    let released = false;
    return {
      ...charge,
      release: () => {
        if (released) return;
        released = true;
        this.#heldBytes -= bytes;
        charge.release();
      },
    };
  }

  tableFull(): Refusal {
    return failed(ENOSPC, `the device's table is full: ${this.objects.capacity} objects`);
  }
}
