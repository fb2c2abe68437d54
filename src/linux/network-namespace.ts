import { token } from '../core/contract/injection.js';

/** A network namespace to do something in. */
export interface NetworkNamespace {
  readonly name: string;
  /**
   * Runs `work` with the calling thread in the namespace, and brings it back. `work` is synchronous: whatever else the
   * thread did meanwhile would happen in there, too.
   */
  run<T>(work: () => T): T;
}

/** Where the interfaces are that a party's maps name. Bound by who makes namespaces; absent: where xdpbed runs. */
export const NETWORK_NAMESPACE = token<NetworkNamespace>('network-namespace');
