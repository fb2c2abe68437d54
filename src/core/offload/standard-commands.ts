import {
  decodeVqPairsSet,
  hasFeature,
  VIRTIO_NET_CTRL_MAC,
  VIRTIO_NET_CTRL_MAC_ADDR_SET,
  VIRTIO_NET_CTRL_MQ,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_MQ,
  controlCommandName,
  type ControlCommand,
} from '../../virtio/index.js';
import { DONE, malformed, unsupported, type Outcome } from './refusal.js';

/**
 * Answers a command of the virtio specification's own. What queue pairs and MAC address a guest chooses makes no
 * difference to what is offloaded: a program runs on all queues, and whatever the address.
 */
export function standardCommand(command: ControlCommand, features: bigint, maxQueuePairs: number): Outcome {
  const { payload } = command;
  if (command.class === VIRTIO_NET_CTRL_MQ && command.command === VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) {
    if (!hasFeature(features, VIRTIO_NET_F_MQ)) return unsupported('VIRTIO_NET_F_MQ is not negotiated');
    const pairs = decodeVqPairsSet(payload, maxQueuePairs);
    return pairs === undefined ? malformed(`the payload is no u16 from 1 to ${maxQueuePairs}`) : DONE;
  }
  if (command.class === VIRTIO_NET_CTRL_MAC && command.command === VIRTIO_NET_CTRL_MAC_ADDR_SET) {
    if (!hasFeature(features, VIRTIO_NET_F_CTRL_MAC_ADDR)) {
      return unsupported('VIRTIO_NET_F_CTRL_MAC_ADDR is not negotiated');
    }
    if (payload.length !== 6) return malformed(`a MAC address of ${payload.length} bytes, not 6`);
    if ((payload[0]! & 1) === 1) return malformed('a multicast address cannot be a MAC address of a nic');
    return DONE;
  }
  return unsupported(`${controlCommandName(command.class, command.command)} is not a command of this device`);
}
