/** The world outside the program, as far as helpers show it. The testbed declares it; never the real host. */
export interface HelperWorld {
  /** bpf_trace_printk and bpf_trace_vprintk. */
  trace(text: string): void;
  /**
   * Nanoseconds of the run's clock (bpf_ktime_get_ns): asked once when a program starts to run on a frame or a batch.
   * Absent: the run state's `now` stays as it is.
   */
  now?(): bigint;
  /** bpf_fib_lookup and bpf_check_mtu; absent: the helpers answer as on a host without routes or devices. */
  readonly network?: HelperNetwork | undefined;
}

export interface HelperNetwork {
  /** MTU of a device in bytes, undefined when there is none of that ifindex. */
  mtu(ifindex: number): number | undefined;
  fibLookup(query: FibQuery): FibAnswer;
  /**
   * Has `changed` called before any other answer than the last to the same question is due, of `mtu` too; returns what ends
   * that. A network that has it gives answers that depend on nothing but the question until then, so that who asks may
   * keep them: executor `wasm` answers from memory what was asked before. Without it every lookup is asked for.
   */
  onChange?(changed: () => void): () => void;
}

/** The fields of `struct bpf_fib_lookup` a route depends on; addresses are 4 or 16 bytes, network order. */
export interface FibQuery {
  readonly family: 'inet' | 'inet6';
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly ifindex: number;
  readonly output: boolean;
  readonly totalLength: number;
  /** The routing table asked for with BPF_FIB_LOOKUP_TBID; absent: the usual ones. */
  readonly tableId?: number;
  /** The mark given with BPF_FIB_LOOKUP_MARK. */
  readonly mark?: number;
}

export interface FibAnswer {
  /** A BPF_FIB_LKUP_RET_* value. */
  readonly result: number;
  readonly ifindex?: number;
  readonly mtu?: number;
  /** The gateway's address when there is one; absent when the destination itself is on the link. */
  readonly nextHop?: Uint8Array;
  /** The address to send from, for BPF_FIB_LOOKUP_SRC. */
  readonly preferredSource?: Uint8Array;
  readonly metric?: number;
  readonly sourceMac?: Uint8Array;
  readonly destinationMac?: Uint8Array;
}
