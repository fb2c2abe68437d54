import { EFAULT, EINVAL, ENODEV, errnoName } from '../../bpf/errno.js';
import {
  CONTROL_ACK_BYTES,
  CONTROL_HEADER_BYTES,
  controlCommandName,
  encodeControlCommand,
  splitResponse,
  VIRTIO_NET_OK,
} from '../../virtio/index.js';
import { XdpbedError } from '../diagnostic.js';
import type { ControlCounts } from '../contract/guest-driver.js';
import type { ControlClient } from '../contract/transport.js';
import { failure, success, SUCCESS, type GuestFailure, type GuestResult } from './guest-map.js';
import type { BpfReply, BpfRequest, ControlProtocol } from './protocol/control-protocol.js';

/**
 * What a guest's driver speaks to its device with: puts requests into bytes, sends them, believes of the answer what
 * it can, and counts. What the device refuses, and whatever else it answers, is a value.
 */
export class DeviceClient {
  readonly #commands = new Map<string, number>();
  readonly #acks = { ok: 0, err: 0 };

  constructor(
    readonly control: ControlClient,
    readonly protocol: ControlProtocol,
  ) {}

  /** Commands sent and acks received so far. */
  get counts(): ControlCounts {
    return { commands: Object.fromEntries(this.#commands), acks: { ...this.#acks } };
  }

  async request(request: BpfRequest): Promise<GuestResult<BpfReply>> {
    const { protocol } = this;
    const name = protocol.requestName(request);
    let bytes: Uint8Array;
    try {
      bytes = protocol.encodeRequest(request);
    } catch (error) {
      // A key of the wrong size, say: this driver does not send what it knows to be malformed.
      if (error instanceof XdpbedError) return failure(EINVAL, error.message);
      throw error;
    }
    let written: Uint8Array;
    try {
      written = await this.#exchange(name, bytes, protocol.replyBytes(request));
    } catch (error) {
      return noAnswer(name, error);
    }
    const answer = protocol.decodeReply(request, bytes, written);
    if (!answer.ok) {
      this.#acks.err++;
      return failure(EFAULT, `${name}: the device's answer makes no sense: ${answer.detail}`);
    }
    const { reply } = answer;
    if (reply.kind === 'error') {
      this.#acks.err++;
      // RFC 2019's single ack byte says no more than that; only its answers with a header carry an errno.
      if (reply.errno === undefined) return failure(EFAULT, `${name}: the device answered VIRTIO_NET_ERR`);
      return failure(reply.errno, `${name}: ${reply.message ?? errnoName(reply.errno)}`);
    }
    this.#acks.ok++;
    return success(reply);
  }

  /** A command of the specification's own. */
  async standard(controlClass: number, command: number, payload: Uint8Array): Promise<GuestResult<void>> {
    const name = controlCommandName(controlClass, command);
    const bytes = encodeControlCommand({ class: controlClass, command, payload });
    let written: Uint8Array;
    try {
      written = await this.#exchange(name, bytes, CONTROL_ACK_BYTES);
    } catch (error) {
      return noAnswer(name, error);
    }
    const ok = splitResponse(written)?.ack === VIRTIO_NET_OK;
    this.#acks[ok ? 'ok' : 'err']++;
    return ok ? SUCCESS : failure(EFAULT, `${name}: the device answered VIRTIO_NET_ERR`);
  }

  /** Not async: who calls waits for the channel, and a turn for each command in between would be felt. */
  #exchange(name: string, bytes: Uint8Array, room: number): Promise<Uint8Array> {
    this.#commands.set(name, (this.#commands.get(name) ?? 0) + 1);
    // Class and command in a descriptor of their own, as Linux sends them.
    const header = bytes.subarray(0, CONTROL_HEADER_BYTES);
    const payload = bytes.subarray(CONTROL_HEADER_BYTES);
    return this.control.send([header, payload], room);
  }
}

/** The channel is down. */
function noAnswer(name: string, error: unknown): GuestFailure {
  if (error instanceof XdpbedError) return failure(ENODEV, `${name}: ${error.message}`);
  throw error;
}
